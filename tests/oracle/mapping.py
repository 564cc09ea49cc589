"""The part of SQL that mappings in our sample projects use, evaluated on one record.

Every column is text or null. Understood: `column`, `"column"`, `column['key']`, `'literal'`, `null`, `a || b`, `lower`,
`upper`, `trim`, `replace`, `concat`, `coalesce`, `nullif`, `case when a = b then c … else d end`, parentheses.
"""

import json
import re

TOKEN = re.compile(r"""\s*(?:('(?:[^']|'')*')|("[^"]+")|([A-Za-z_]\w*)|(\|\||<>|=|[\[\](),]))""")


def tokens(text):
    found, at = [], 0
    while at < len(text.rstrip()):
        match = TOKEN.match(text, at)
        if not match:
            raise ValueError(f"cannot read the expression {text!r} at {at}")
        found.append(match.group().strip())
        at = match.end()
    return found


def to_text(value):
    """A JSON value as text: numbers as they were written, objects and lists as JSON."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


class Expression:
    """`Expression(text)(record)` gives the text or None that the expression has on this record."""

    def __init__(self, text):
        self.words = tokens(text)
        self.at = 0
        self.run = self.concatenation()
        if self.at != len(self.words):
            raise ValueError(f"unexpected {self.words[self.at]!r} in {text!r}")

    def __call__(self, record):
        return to_text(self.run(record))

    def peek(self):
        return self.words[self.at] if self.at < len(self.words) else ""

    def take(self, expected=None):
        word = self.peek()
        if expected is not None and word.lower() != expected:
            raise ValueError(f"expected {expected!r}, found {word!r}")
        self.at += 1
        return word

    def concatenation(self):
        parts = [self.primary()]
        while self.peek() == "||":
            self.take()
            parts.append(self.primary())
        if len(parts) == 1:
            return parts[0]

        def run(record):
            texts = [to_text(part(record)) for part in parts]
            return None if None in texts else "".join(texts)

        return run

    def primary(self):
        word = self.take()
        if word.startswith("'"):
            literal = word[1:-1].replace("''", "'")
            return lambda record: literal
        if word == "(":
            inner = self.concatenation()
            self.take(")")
            return inner
        if word.lower() == "null":
            return lambda record: None
        if word.lower() == "case":
            return self.case()
        if self.peek() == "(":
            return self.call(word.lower())
        return self.column(word[1:-1] if word.startswith('"') else word)

    def column(self, name):
        keys = []
        while self.peek() == "[":
            self.take()
            keys.append(self.take()[1:-1])
            self.take("]")

        def run(record):
            value = record.get(name)
            for key in keys:
                value = value.get(key) if isinstance(value, dict) else None
            return value

        return run

    def call(self, name):
        self.take("(")
        arguments = [self.concatenation()]
        while self.peek() == ",":
            self.take()
            arguments.append(self.concatenation())
        self.take(")")
        function = FUNCTIONS[name]
        return lambda record: function(*(to_text(argument(record)) for argument in arguments))

    def case(self):
        branches, otherwise = [], lambda record: None
        while self.peek().lower() == "when":
            self.take()
            left = self.concatenation()
            operator = self.take()
            right = self.concatenation()
            self.take("then")
            branches.append((left, operator, right, self.concatenation()))
        if self.peek().lower() == "else":
            self.take()
            otherwise = self.concatenation()
        self.take("end")

        def run(record):
            for left, operator, right, answer in branches:
                a, b = to_text(left(record)), to_text(right(record))
                if a is not None and b is not None and (a == b) == (operator == "="):
                    return answer(record)
            return otherwise(record)

        return run


def null_in_null_out(function):
    return lambda *texts: None if None in texts else function(*texts)


FUNCTIONS = {
    "lower": null_in_null_out(str.lower),
    "upper": null_in_null_out(str.upper),
    "trim": null_in_null_out(lambda text: text.strip(" ")),
    "replace": null_in_null_out(str.replace),
    "concat": lambda *texts: "".join(text for text in texts if text is not None),
    "coalesce": lambda *texts: next((text for text in texts if text is not None), None),
    "nullif": lambda a, b: None if a == b else a,
}
