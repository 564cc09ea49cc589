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
    # Times are spread, so that ties are in our order for ClickHouse too: of rows of so many conditions. See `spread`.
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


def differences_of_times(theirs, ours, no_row=None):
    """What differs by the times; `no_row` is our answer about rows that all lack one, where ClickHouse has null."""
    differences = [
        Difference(
            "signed numbers and times finer than a second are taken, which it refuses",
            Example(TWO, theirs("c1, c2"), ours("c1, c2"), MILLISECONDS),
        )
    ]
    if no_row is not None:
        differences.append(
            Difference(
                f"a group whose rows all lack a time has the answer {no_row}, where its is null",
                Example([(None, 0b01, 0, "a")], theirs("c1, c2"), ours("c1, c2")),
                lambda _case, rows, _our, their: their is None and all(row[0] is None for row in rows),
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
            *differences_of_times(call("windowFunnel(5)({})"), call("window_funnel(5, {})"), 0),
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


def pattern_of(case):
    return case.theirs[case.theirs.index("'") + 1 : case.theirs.rindex("'")]


def may_end_wrongly(case, *_):
    """A pattern whose last items may take no row, where ClickHouse tries and retracts: with time terms, or to count."""
    pattern = pattern_of(case)
    retracts = "(?t" in pattern or case.theirs.startswith("sequenceCount")
    return retracts and re.search(r"(\.\*|\(\?t[^)]*\))$", pattern) is not None


def may_fail_behind_its_conditions(case, *_):
    """A pattern of `sequence_match_events` with a time term that ends in something else than a condition."""
    return "(?t" in pattern_of(case) and re.search(r"\(\?\d+\)$", pattern_of(case)) is None


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
    no_row = {"sequence_match": "false", "sequence_count": "0", "sequence_match_events": None}[ours]
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
            may_end_wrongly,
        ),
    ]
    if ours == "sequence_match_events":
        differences.append(
            Difference(
                "where a pattern with time terms ends in something else than `(?N)`, the events are those of a match if one "
                "exists, where its may be those of a chain that fails there",
                example([(1, 1, 0, "a"), (5, 1, 0, "a"), (6, 1, 0, "b")], "(?1)(?t<3)."),
                may_fail_behind_its_conditions,
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


FUNCTIONS = [
    window_funnel(),
    sequence("sequence_match", "sequenceMatch"),
    sequence("sequence_count", "sequenceCount"),
    sequence("sequence_match_events", "sequenceMatchEvents"),
    next_node(),
    retention(),
]
