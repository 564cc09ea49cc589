"""Patterns of `sequence_match` and its kin: those that are asked, and what our documentation says of them, tried out.

The rule is written from the text of the reference alone, and tries every way to match one after another: for few rows.
"""

import itertools
import random
import re
from functools import cached_property

PATTERNS = [
    "",
    ".*",
    "(?1)",
    "(?1)(?2)",
    "(?2)(?1)",
    "(?1)(?1)",
    "(?1)(?2)(?3)",
    "(?1).(?2)",
    "(?1)..(?3)",
    ".(?2)",
    "(?1).",
    "(?1).*(?2)",
    ".*(?1).*(?2).*",
    "(?1).*(?2)(?3)",
    "(?1).*(?2).*(?3)",
    "(?1)(?t<=2)(?2)",
    "(?1)(?t<2)(?2)",
    "(?1)(?t>2)(?2)",
    "(?1)(?t>=2)(?2)",
    "(?1)(?t==2)(?2)",
    "(?1)(?t>=1)(?2)(?t<3)(?3)",
    "(?1).*(?t<4)(?3)",
    "(?1)(?t<5).*(?2)",
    "(?1)(?t>=2)(?2)(?t<=6)(?1)",
    "(?1)(?t>1).(?3)",
]


def random_patterns(count, most=3):
    """Patterns of any items over some conditions, none with two time terms in a row, which ours refuses."""
    chance = random.Random(f"patterns {most}")
    patterns = set()
    while len(patterns) < count:
        pattern = ""
        for _ in range(chance.randint(1, 6)):
            kind = chance.random()
            if kind < 0.5:
                pattern += f"(?{chance.randint(1, most)})"
            elif kind < 0.6:
                pattern += "."
            elif kind < 0.75:
                pattern += ".*"
            elif not re.search(r"\(\?t[^)]*\)$", pattern):
                sign = chance.choice(["<=", "<", ">", ">=", "=="])
                pattern += f"(?t{sign}{chance.randint(1 if sign == '<' else 0, 5)})"
        patterns.add(pattern)
    return sorted(patterns)


TERM = re.compile(r"\(\?t(<=|>=|==|<|>)(\d+)\)")
SPREAD = 1_000


def spread(rows, count):
    """The rows as ClickHouse gets them where it leaves the order of ties open: times apart, in our order of ties."""
    low = (1 << count) - 1
    rows = sorted(rows, key=lambda row: (row[0], row[1] & low))
    ties = (list(rows) for _, rows in itertools.groupby(rows, key=lambda row: row[0]))
    return [(row[0] * SPREAD + rank, *row[1:]) for tied in ties for rank, row in enumerate(tied)]


def spread_term(term):
    """A time term that says of spread times what it says of the times themselves."""
    sign, span = term.group(1), int(term.group(2)) * SPREAD
    return f"(?t{sign}{span + SPREAD // 2 if sign in ('<=', '>') else max(span - SPREAD // 2, 0)})"


# The rule ----------------------------------------------------------------------------------------------------------------

# Every way to match so many rows is soon tried.
MOST_ROWS_OF_THE_RULE = 40
ITEM = re.compile(r"\(\?(\d+)\)|(\.\*)|(\.)|\(\?t(<=|>=|==|<|>)(\d+)[a-z ]*\)")
HOLDS = {
    "<=": lambda distance, span: distance <= span,
    "<": lambda distance, span: distance < span,
    ">": lambda distance, span: distance > span,
    ">=": lambda distance, span: distance >= span,
    "==": lambda distance, span: distance == span,
}


def parts(pattern):
    """The items of a pattern; before them the run that lets a match begin anywhere."""
    items, position = [("run",)], 0
    while position < len(pattern):
        item = ITEM.match(pattern, position)
        condition, run, one, sign, span = item.groups()
        if condition:
            items.append(("condition", int(condition) - 1))
        elif run or one:
            items.append(("run",) if run else ("one",))
        else:
            items.append(("gap", sign, int(span)))
        position = item.end()
    return items


def rows_of(stream, conditions):
    """Time and conditions of the rows that a pattern sees, in order: those that have a time and meet any condition."""
    low = (1 << conditions) - 1
    return sorted((row[0], row[1] & low) for row in stream if row[0] is not None and row[1] & low)


class Rule:
    """What the documentation says of a pattern and rows in order."""

    def __init__(self, pattern, rows):
        self.items = parts(pattern)
        self.rows = rows
        self.has_time_terms = any(kind == "gap" for kind, *_ in self.items)

    def matches(self, rows, item=0, position=0, last=0, taken=()):
        """Where each match ends and which rows its conditions take, the first one first; of what fails, the end is None.

        `last` is the row taken last, or the first behind a run.
        """
        if item == len(self.items):
            yield position, taken
            return
        yield None, taken
        kind, *rest = self.items[item]
        if kind == "run":
            # To run over all rows that are left finds nothing that a shorter run does not.
            for stop in range(position, len(rows)) or [position]:
                yield from self.matches(rows, item + 1, stop, stop if position < len(rows) else last, taken)
        elif kind == "gap":
            sign, span = rest
            for stop in range(position, len(rows)):
                if HOLDS[sign](rows[stop][0] - rows[last][0], span):
                    yield from self.matches(rows, item + 1, stop, stop, taken)
            if position == len(rows) and (sign in ("<=", "<") or (sign, span) == (">=", 0)):
                yield from self.matches(rows, item + 1, position, last, taken)
        elif position < len(rows) and (kind == "one" or rows[position][1] >> rest[0] & 1):
            taken = (*taken, position) if kind == "condition" else taken
            yield from self.matches(rows, item + 1, position + 1, position, taken)

    def first(self, rows):
        return next(((end, taken) for end, taken in self.matches(rows) if end is not None), None)

    def times(self, taken):
        return tuple(self.rows[position][0] for position in taken)

    @cached_property
    def match(self):
        """Where the first match ends, and which rows its conditions take; None without a match."""
        return self.first(self.rows)

    @cached_property
    def ends(self):
        """Where each match ends of those that follow one another."""
        ends, start = [], 0
        while start < len(self.rows) and (match := self.first(self.rows[start:])):
            ends.append(start + match[0])
            start += max(match[0], 1)
        return ends

    @cached_property
    def chains(self):
        """The times of every chain that matches a beginning of the pattern."""
        return {self.times(taken) for _, taken in self.matches(self.rows)}

    @cached_property
    def events(self):
        # Of equally long ones, `max` takes the first.
        taken = self.match[1] if self.match else max((taken for _, taken in self.matches(self.rows)), key=len)
        return list(self.times(taken))
