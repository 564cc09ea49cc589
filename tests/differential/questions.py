"""What is asked of both sides: per function the streams, the cases, and the differences that are known.

A case is one question to both. A suite asks cases of streams of one kind. A difference is known if it is listed with its
reason, which is the text of the function's documentation, and with an example on which it shows.
"""

import itertools
import random
import re
from dataclasses import dataclass, field
from functools import partial
from typing import Callable

from patterns import MOST_ROWS_OF_THE_RULE, PATTERNS, SPREAD, TERM, Rule, random_patterns, rows_of, spread_term
from streams import (
    MOST_CONDITIONS,
    NUMBER,
    TIMES,
    Time,
    any_stream,
    long_stream,
    walk,
    with_distinct_times,
    with_equal_rows,
    with_null_conditions,
    with_null_times,
    with_null_values,
)


@dataclass
class Case:
    """One question: both expressions, how to read our cell of CSV, and the order in which ClickHouse meets equal times."""

    theirs: str
    ours: str
    read: Callable[[str], object]
    order: str = "m"
    # What becomes of ClickHouse's answer before it is compared.
    translate: Callable[[object], object] = lambda answer: answer


@dataclass
class Suite:
    cases: list
    # Makes a stream of a source of chance.
    stream: Callable[[random.Random], list]
    # The part of all streams that it gets, at least one.
    share: float = 1.0
    time: Time = NUMBER
    # Times are spread, so that ties are in our order for ClickHouse too: of rows of so many conditions. See `patterns.spread`.
    spreads: int = 0


@dataclass
class Example:
    """Rows, and a call on which both sides differ, or that only one of them takes."""

    rows: list
    theirs: str
    ours: str
    time: Time = NUMBER
    order: str = "m"


@dataclass
class Difference:
    """A known difference: an example, and whether it may be that of a case, its rows, our answer and ClickHouse's.

    Where only null conditions make it, ours must still be ClickHouse's answer with these as false.
    """

    reason: str
    example: Example | None
    applies: Callable[[Case, list, object, object], bool] = lambda *_: False
    is_of_nulls: bool = False


@dataclass
class Function:
    name: str
    theirs: str
    suites: list
    differences: list = field(default_factory=list)


# Cells -------------------------------------------------------------------------------------------------------------------


def to_bool(cell):
    return {"true": 1, "false": 0}[cell]


def items(cell):
    return [item for item in cell.strip("[]").split(", ") if item]


def to_numbers(cell):
    return [int(number) for number in items(cell)]


def to_bools(cell):
    return [to_bool(word) for word in items(cell)]


def to_text(cell):
    return cell or None


# Parts of calls ----------------------------------------------------------------------------------------------------------


def conditions(count):
    return ", ".join(f"c{k + 1}" for k in range(count))


def mask(count):
    return f"bitAnd(m, {(1 << count) - 1})"


ONE = (0, 0b01, 0, "a")
TWO = [ONE, (1, 0b10, 0, "b")]
MILLISECONDS = Time("toDateTime64(t, 3)", "arrow_cast(t, 'Timestamp(ms)')", str, str, int, int)


def common_differences(theirs, ours, rows=((0, 0b01, 0b10, "a"),), few="c1, c2"):
    """What differs wherever nulls may be: `theirs` and `ours` write a call from its conditions; the rows show it."""
    many = conditions(12)
    return [
        Difference(
            "null conditions are false, where it passes over rows in which any condition is null",
            Example(rows, theirs(few), ours(few)),
            is_of_nulls=True,
        ),
        Difference(
            "every argument may be null, where it takes at most 8 such",
            Example([(0, 0b01, 0b10, "a")], theirs(many), ours(many)),
        ),
    ]


ANSWERS_ZERO = ("has the answer 0", lambda _case: 0)


def differences_of_times(theirs, ours, no_row=None):
    """What differs by the times. Where ClickHouse has null about rows that all lack one, `no_row` says our answer: in words,
    and for a case.
    """
    differences = [
        Difference(
            "signed numbers and times finer than a second are taken, which it refuses",
            Example(TWO, theirs("c1, c2"), ours("c1, c2"), MILLISECONDS),
        )
    ]
    if no_row is not None:
        words, answer = no_row
        differences.append(
            Difference(
                f"a group whose rows all lack a time {words}, where its is null",
                Example([(None, 0b01, 0, "a")], theirs("c1, c2"), ours("c1, c2")),
                lambda case, rows, our, their: (
                    their is None and our == answer(case) and all(row[0] is None for row in rows)
                ),
            )
        )
    return differences


# window_funnel -----------------------------------------------------------------------------------------------------------


def mode_combinations():
    strict = ["strict_deduplication", "strict_order", "strict_increase", "strict_once"]
    for size in range(len(strict) + 1):
        for modes in itertools.combinations(strict, size):
            for more in [(), ("allow_reentry",)] if "strict_order" in modes else [()]:
                yield modes + more


MODES = list(mode_combinations())


def window_funnel_cases(steps, windows, modes=MODES, time=NUMBER):
    for count, window, words in itertools.product(steps, windows, modes):
        quoted = "".join(f", '{word}'" for word in words)
        mode = f" '{'|'.join(words)}'," if words else ""
        yield Case(
            f"windowFunnel({window}{quoted})(t, {conditions(count)})",
            f"window_funnel({time.span(window)},{mode} t, {conditions(count)})",
            int,
            # Where rows of one instant meet the same step, `strict_once` with `strict_deduplication` goes by their order,
            # and this is ours.
            f"{mask(count)}, m",
        )


def call(text):
    """Writes a call from its conditions, after the time."""
    return lambda conditions: text.format(f"t, {conditions}")


def window_funnel():
    of_five = list(window_funnel_cases(range(1, 6), (0, 3, 7)))
    of_three = list(window_funnel_cases((3,), (2, 5)))
    # ClickHouse keeps every chain with `strict_once`: of many rows that is too much.
    without_once = [words for words in MODES if "strict_once" not in words]
    return Function(
        "window_funnel",
        "windowFunnel",
        [
            Suite(of_five, any_stream),
            Suite(of_three, lambda chance: with_null_times(chance, any_stream(chance)), 0.3),
            Suite(of_five, lambda chance: with_null_conditions(chance, any_stream(chance), 5), 0.3),
            *(Suite(list(window_funnel_cases((3,), (2, 5), MODES, time)), any_stream, 0.1, time) for time in TIMES),
            Suite(
                list(window_funnel_cases((6, 8, 16, 31, 32), (8, 20, 60))),
                lambda chance: walk(chance, chance.choice([6, 8, 16, 32]), chance.randint(10, 80)),
                0.1,
            ),
            Suite(
                list(window_funnel_cases((2, 3, 5), (0, 10, 5_000), without_once)),
                lambda chance: long_stream(chance, 40_000),
                0.002,
            ),
            Suite(list(window_funnel_cases((3, 5), (0, 30))), lambda chance: long_stream(chance, 150), 0.05),
        ],
        [
            *common_differences(call("windowFunnel(5)({})"), call("window_funnel(5, {})")),
            *differences_of_times(call("windowFunnel(5)({})"), call("window_funnel(5, {})"), ANSWERS_ZERO),
            Difference(
                "intervals as window, several modes in one text and the presets are ours",
                Example(
                    TWO,
                    "windowFunnel(5, 'strict_order|strict_once')(t, c1, c2)",
                    "window_funnel(5, 'strict_order|strict_once', t, c1, c2)",
                ),
            ),
            Difference(
                "rows of one time that meet the same step go by their conditions, where with `strict_once` and "
                "`strict_deduplication` it goes by their arrival",
                Example(
                    [(0, 0b111, 0, "a"), (0, 0b100, 0, "b"), (0, 0b010, 0, "c")],
                    "windowFunnel(5, 'strict_deduplication', 'strict_once')(t, c1, c2, c3)",
                    "window_funnel(5, 'strict_deduplication|strict_once', t, c1, c2, c3)",
                    order="m desc",
                ),
            ),
        ],
    )


# sequence_match, sequence_count, sequence_match_events --------------------------------------------------------------------

def sequence_cases(ours, theirs, patterns=PATTERNS, count=3, time=NUMBER, spreads=False):
    read = {
        "sequence_match": to_bool,
        "sequence_count": int,
        "sequence_match_events": lambda cell: [time.our_number(item) for item in items(cell)],
    }[ours]

    def as_numbers(times):
        return [time.their_number(text) // (SPREAD if spreads else 1) for text in map(str, times)]

    for pattern in patterns:
        if spreads and "==" in pattern:
            continue
        yield Case(
            f"{theirs}('{TERM.sub(spread_term, pattern) if spreads else pattern}')(t, {conditions(count)})",
            f"{ours}('{TERM.sub(lambda term: spelled(term, time), pattern)}', t, {conditions(count)})",
            read,
            translate=as_numbers if ours == "sequence_match_events" else lambda answer: answer,
        )


def spelled(term, time):
    return f"(?t{term.group(1)}{time.pattern_span(int(term.group(2)))})"


def rule_of(case, stream):
    """What the documentation says of a case and its rows; None where there are too many rows to try every way."""
    pattern = case.ours[case.ours.index("'") + 1 : case.ours.rindex("'")]
    rows = rows_of(stream, len(set(re.findall(r"\bc\d+", case.ours))))
    return None if len(rows) > MOST_ROWS_OF_THE_RULE else Rule(pattern, rows)


def misses_the_last_row(case, stream, our, their):
    """Ours is by the rule and comes of a match that takes the last row; ClickHouse has less: no match, or one fewer."""
    rule = rule_of(case, stream)
    if rule is None or not rule.match or their is None or rule.items[-1][0] not in ("run", "gap"):
        return False
    if case.theirs.startswith("sequenceCount"):
        return our == len(rule.ends) > their and rule.ends[-1] == len(rule.rows)
    if not rule.has_time_terms or rule.match[0] != len(rule.rows):
        return False
    if case.theirs.startswith("sequenceMatchEvents"):
        return our == rule.events and tuple(their) in rule.chains
    return (our, their) == (1, 0)


def fails_behind_its_conditions(case, stream, our, their):
    """Ours is by the rule; ClickHouse has the times of a chain whose pattern, with time terms, goes on behind it."""
    rule = rule_of(case, stream)
    if rule is None or not rule.has_time_terms or rule.items[-1][0] == "condition" or their is None:
        return False
    return our == rule.events and tuple(their) in rule.chains


def sequence(ours, theirs):
    cases = partial(sequence_cases, ours, theirs)

    def of_times(time):
        return Suite(list(cases(time=time)), lambda chance: distinct(chance), 0.1, time)

    def distinct(chance):
        return with_equal_rows(chance, with_distinct_times(chance, any_stream(chance)))

    every = "".join(f"(?{k}).*" for k in range(1, 33)) + "(?1)"
    wide = [every, "(?30)(?31)(?32)", "(?32)(?1)(?2)", "(?17).(?19)", "(?31)(?t<=3)(?32)"]
    easy = [pattern for pattern in PATTERNS if "(?t" not in pattern] + ["(?1)(?t<=2)(?2)", "(?1)(?t<3)(?3)"]
    def example(rows, pattern):
        return Example(rows, f"{theirs}('{pattern}')(t, c1, c2)", f"{ours}('{pattern}', t, c1, c2)")

    calls = call(theirs + "('(?1)(?2)')({})"), call(ours + "('(?1)(?2)', {})")
    as_no_rows = ("is answered as no rows are", lambda case: int(rule_of(case, []).match is not None))
    no_row = {"sequence_match": as_no_rows, "sequence_count": ANSWERS_ZERO, "sequence_match_events": None}[ours]
    differences = [
        *common_differences(call(theirs + "('(?1)')({})"), call(ours + "('(?1)', {})")),
        *differences_of_times(*calls, no_row),
        Difference("rows of equal time are taken in the order of their conditions, where its order is open", None),
        Difference("`!=`, intervals and blanks in patterns are ours", example(TWO, "(?1) (?t!=2) (?2)")),
        Difference("`(?t<0)`, which cannot hold, is refused", example(TWO, "(?1)(?t<0)(?2)")),
        Difference(
            "no search is too long, where it gives up after a million steps",
            example([(time, 2 if time == 0 else 1, 0, "a") for time in range(3_000)], "(?1)(?t<=5000)(?2)"),
        ),
        # It reads behind the end of the pattern, so that no example is certain to show it.
        Difference(
            "a match that takes the last row is found, which it may miss where the last items of a pattern"
            f"{'' if ours == 'sequence_count' else ' with time terms'} may take none (its issue 120729)",
            None,
            misses_the_last_row,
        ),
    ]
    if ours == "sequence_match_events":
        differences.append(
            Difference(
                "where a pattern with time terms ends in something else than `(?N)`, the events are those of a match if one "
                "exists, where its may be those of a chain that fails there",
                example([(1, 1, 0, "a"), (5, 1, 0, "a"), (6, 1, 0, "b")], "(?1)(?t<3)."),
                fails_behind_its_conditions,
            )
        )
    return Function(
        ours,
        theirs,
        [
            Suite(list(cases()), distinct),
            Suite(list(cases(random_patterns(300))), distinct, 0.1),
            Suite(list(cases([*PATTERNS, *random_patterns(100)], spreads=True)), any_stream, 0.3, spreads=3),
            Suite(list(cases()), lambda chance: with_null_times(chance, distinct(chance)), 0.3),
            Suite(list(cases()), lambda chance: with_null_conditions(chance, distinct(chance), 3), 0.3),
            *map(of_times, TIMES),
            Suite(
                list(cases(wide, MOST_CONDITIONS)),
                lambda chance: with_distinct_times(chance, walk(chance, 32, chance.randint(10, 80))),
                0.1,
            ),
            Suite(
                list(cases(easy)),
                lambda chance: with_distinct_times(chance, long_stream(chance, 40_000, 3)),
                0.002,
            ),
        ],
        differences,
    )


# sequence_next_node ------------------------------------------------------------------------------------------------------


def next_node_cases(counts=(1, 2, 3), bases=("c1", "c4", "true"), time=NUMBER):
    forms = [("forward", base) for base in ("head", "first_match", "last_match")]
    forms += [("backward", base) for base in ("tail", "first_match", "last_match")]
    for count, base_condition, (direction, base) in itertools.product((0, *counts), bases, forms):
        if count == 0 and base in ("first_match", "last_match"):
            continue
        events = "".join(f", c{k + 1}" for k in range(count))
        highest_first = ", ".join([base_condition, *(f"c{k}" for k in range(count, 0, -1))])
        yield Case(
            f"sequenceNextNode('{direction}', '{base}')(t, v, {base_condition}{events})",
            f"sequence_next_node('{direction}', '{base}', t, v, {base_condition}{events})",
            to_text,
            # ClickHouse keeps rows of equal time and value in the order of arrival: here that of ours.
            f"v, {highest_first}",
        )


def next_node():
    def of(text):
        return lambda conditions: text.format(f"t, v, {conditions}")

    cases = list(next_node_cases())
    return Function(
        "sequence_next_node",
        "sequenceNextNode",
        [
            Suite(cases, any_stream),
            Suite(cases, lambda chance: with_null_times(chance, any_stream(chance)), 0.3),
            Suite(cases, lambda chance: with_null_values(chance, any_stream(chance)), 0.3),
            Suite(cases, lambda chance: with_null_conditions(chance, any_stream(chance), 5), 0.3),
            *(Suite(list(next_node_cases((2,), ("true",), time)), any_stream, 0.1, time) for time in TIMES),
            Suite(
                list(next_node_cases((4, 8, 31, 32), ("true", "c32"))),
                lambda chance: walk(chance, chance.choice([4, 8, 32]), chance.randint(2, 80)),
                0.1,
            ),
            Suite(
                list(next_node_cases((1, 2), ("c1", "true"))),
                lambda chance: long_stream(chance, 40_000),
                0.002,
            ),
        ],
        [
            *common_differences(
                of("sequenceNextNode('forward', 'head')({})"),
                of("sequence_next_node('forward', 'head', {})"),
                [(0, 0, 0b01, "a"), (1, 0b01, 0, "b")],
                "c1",
            ),
            *differences_of_times(
                of("sequenceNextNode('forward', 'head')({})"), of("sequence_next_node('forward', 'head', {})")
            ),
            Difference(
                "rows of equal time and value are taken in the order of their conditions, where it takes them in that of "
                "their arrival",
                Example(
                    [(0, 0b01, 0, "a"), (0, 0b10, 0, "a")],
                    "sequenceNextNode('forward', 'head')(t, v, c1)",
                    "sequence_next_node('forward', 'head', t, v, c1)",
                ),
            ),
            Difference(
                "at most 32 conditions, where it takes up to 64",
                Example(
                    TWO,
                    f"sequenceNextNode('forward', 'head')(t, v, true, {', '.join(['c1'] * 40)})",
                    f"sequence_next_node('forward', 'head', t, v, true, {', '.join(['c1'] * 40)})",
                ),
            ),
        ],
    )


# retention ---------------------------------------------------------------------------------------------------------------


def retention():
    def cases(counts):
        return [Case(f"retention({conditions(n)})", f"retention({conditions(n)})", to_bools) for n in counts]

    return Function(
        "retention",
        "retention",
        [
            Suite(cases(range(2, 6)), any_stream),
            Suite(cases(range(2, 6)), lambda chance: with_null_conditions(chance, any_stream(chance), 5)),
            Suite(cases(range(2, 33)), lambda chance: any_stream(chance, 32, 20)),
            Suite(cases(range(2, 33)), lambda chance: long_stream(chance, 40_000, 32), 0.002),
        ],
        common_differences("retention({})".format, "retention({})".format),
    )


# arg_min -----------------------------------------------------------------------------------------------------------------


def no_row_passes(case, rows, our, their):
    """No row has a time, a value and the condition of the case: ours is null, and ClickHouse's the empty text."""
    number = int(re.search(r", c(\d+)\)$", case.theirs).group(1)) if "If" in case.theirs else None
    passes = [number is None or row[1] >> (number - 1) & 1 for row in rows if row[0] is not None and row[3] is not None]
    return (our, their) == (None, "") and not any(passes)


def arg_min():
    # Our null and the empty text would be one cell.
    def read(cell):
        return None if cell == "null" else cell

    # ClickHouse takes the first of equal times that it meets: here the smallest value, which is ours.
    def case(theirs, ours):
        return Case(theirs, f"coalesce({ours}, 'null')", read, "v")

    def by_conditions(count):
        return [case(f"argMinIf(v, t, c{k})", f"arg_min(v, t) filter (where c{k})") for k in range(1, count + 1)]

    plain = case("argMin(v, t)", "arg_min(v, t)")
    with_empty = case("argMin(if(v = 'a', '', v), t)", "arg_min(case when v = 'a' then '' else v end, t)")
    long_text = case("argMin(repeat(v, 20), t)", "arg_min(repeat(v, 20), t)")
    cases = [plain, with_empty, long_text, *by_conditions(5)]
    return Function(
        "arg_min",
        "argMin",
        [
            Suite(cases, any_stream, 4),
            Suite(cases, lambda chance: with_null_times(chance, any_stream(chance)), 0.3),
            Suite(cases, lambda chance: with_null_values(chance, any_stream(chance)), 0.3),
            Suite(cases, lambda chance: with_null_conditions(chance, any_stream(chance), 5), 0.3),
            *(Suite(cases, any_stream, 0.1, time) for time in TIMES),
            Suite(by_conditions(32), lambda chance: walk(chance, 32, chance.randint(2, 80)), 0.1),
            Suite(cases, lambda chance: long_stream(chance, 40_000), 0.002),
        ],
        [
            Difference(
                "the answer is one where several rows share the time, where it takes any of them",
                Example([(0, 0, 0, "b"), (0, 0, 0, "a")], "argMin(v, t)", "arg_min(v, t)", order="v desc"),
            ),
            Difference(
                "values are text, where it takes any type",
                Example([(1, 0, 0, "a")], "argMin(t, t)", "arg_min(t, t)"),
            ),
            Difference("null, where it gives the empty text", None, no_row_passes),
        ],
    )


FUNCTIONS = [
    window_funnel(),
    sequence("sequence_match", "sequenceMatch"),
    sequence("sequence_count", "sequenceCount"),
    sequence("sequence_match_events", "sequenceMatchEvents"),
    next_node(),
    retention(),
    arg_min(),
]
