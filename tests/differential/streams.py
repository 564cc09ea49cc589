"""Random streams of events, and the types of time in which both sides read them.

A stream is a list of rows (time, met, unknown, value). Bit k of `met` is set if condition k+1 holds, bit k of `unknown` if
it is null; no bit is in both. A time or a value may be None.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Callable

MOST_CONDITIONS = 32


# Types of time -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Time:
    """A type of time: how each side makes it of the number t, and how ours writes a span of so many units of t."""

    theirs: str
    ours: str
    span: Callable[[int], str]
    pattern_span: Callable[[int], str]
    # A time that each side returned, as text, back to t.
    their_number: Callable[[str], int]
    our_number: Callable[[str], int]


def numbers(theirs, ours, their_first=0, our_first=0):
    return Time(theirs, ours, str, str, lambda text: int(text) - their_first, lambda text: int(text) - our_first)


def moments(theirs, ours, start, unit, interval=True):
    """Times that begin at `start`; spans are intervals of the named unit, or numbers of it."""
    first = datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(**{f"{unit}s": start})

    def to_number(text):
        # ClickHouse has numbers in place of what is finer than a second.
        if text.isdigit():
            return int(text) - start
        time = datetime.fromisoformat(text)
        return (time.replace(tzinfo=time.tzinfo or timezone.utc) - first) // timedelta(**{f"{unit}s": 1})

    return Time(
        theirs,
        ours,
        lambda count: f"interval '{count} {unit}s'" if interval else str(count),
        lambda count: f"{count} {unit}s" if interval else str(count),
        to_number,
        to_number,
    )


DAY, SECOND = 19_000, 1_700_000_000
FAR = 9_000_000_000_000_000_000
MILLI, MICRO = SECOND * 1_000, SECOND * 1_000_000

# ClickHouse takes no signed numbers and nothing finer than seconds as time: it gets the number of the units instead.
NUMBER = numbers("toUInt32(t)", "t")
TIMES = [
    numbers("toUInt8(t)", "arrow_cast(t, 'UInt8')"),
    numbers("toUInt16(t)", "arrow_cast(t, 'Int16')"),
    numbers("toUInt32(t)", "t - 1000", 0, -1000),
    numbers(f"toUInt64(t) + {FAR}", f"t + {FAR}", FAR, FAR),
    moments(f"toDate({DAY} + t)", f"arrow_cast({DAY} + t, 'Date32')", DAY, "day", interval=False),
    moments(f"toDate({DAY} + t)", f"arrow_cast(arrow_cast({DAY} + t, 'Date32'), 'Date64')", DAY, "day"),
    moments(
        f"toDateTime({SECOND} + t, 'UTC')", f"arrow_cast({SECOND} + t, 'Timestamp(s)')", SECOND, "second", interval=False
    ),
    moments(f"toDateTime({SECOND} + t)", f"arrow_cast({SECOND} + t, 'Timestamp(s, \"+02:00\")')", SECOND, "second"),
    moments(f"toUInt64({MILLI} + t)", f"arrow_cast({MILLI} + t, 'Timestamp(ms)')", MILLI, "millisecond"),
    moments(f"toUInt64({MICRO} + t)", f"arrow_cast({MICRO} + t, 'Timestamp(µs, \"UTC\")')", MICRO, "microsecond"),
    # What is finer than a microsecond is cut off.
    moments(
        f"toUInt64({MICRO} + t)",
        f"arrow_cast(({MICRO} + t) * 1000 + t * 37 % 1000, 'Timestamp(ns)')",
        MICRO,
        "microsecond",
    ),
]


# Streams -----------------------------------------------------------------------------------------------------------------


def any_stream(chance, conditions=5, most=12):
    """Few instants: ties, equal rows, rows that meet no condition, one, or several."""
    span = chance.choice([1, 2, 4, 8, 20])
    density = chance.choice([0.15, 0.35, 0.6])
    rows = []
    for _ in range(chance.randint(1, most)):
        if chance.random() < 0.5:
            met = 1 << chance.randrange(conditions)
        else:
            met = sum((chance.random() < density) << k for k in range(conditions))
        rows.append((chance.randint(0, span), met, 0, chance.choice("abcdef")))
    return rows


def with_distinct_times(chance, rows):
    times = sorted(chance.sample(range(2 * len(rows)), len(rows)))
    return [(time, *row[1:]) for time, row in zip(times, rows)]


def with_equal_rows(chance, rows):
    """Some rows several times: whichever comes first, the answer is the same."""
    return [row for row in rows for _ in range(chance.choice([1, 1, 1, 2, 3]))]


def with_null_times(chance, rows):
    return [(None if chance.random() < 0.25 else row[0], *row[1:]) for row in rows]


def with_null_values(chance, rows):
    return [(*row[:3], None if chance.random() < 0.25 else row[3]) for row in rows]


def with_null_conditions(chance, rows, conditions):
    def unknown():
        return sum((chance.random() < 0.15) << k for k in range(conditions))

    return [(time, met & ~null, null, value) for (time, met, _, value) in rows for null in [unknown()]]


def walk(chance, conditions, rows):
    """Events that mostly go from one condition to the next, so that also the last of many is reached."""
    condition, time, stream = 0, 0, []
    for _ in range(rows):
        also = 1 << chance.randrange(conditions) if chance.random() < 0.1 else 0
        stream.append((time, 0 if chance.random() < 0.02 else 1 << condition | also, 0, chance.choice("abcdef")))
        condition = (condition + chance.choice([0, 1, 1, 1, 1, 1, 1, 2] if chance.random() < 0.9 else [-1, -2])) % conditions
        time += chance.choice([0, 1, 1, 2])
    return stream


def long_stream(chance, rows, conditions=5):
    """One customer with many events: mostly of the first conditions, in bursts that share an instant."""
    time, stream = 0, []
    for _ in range(rows):
        time += chance.choice([0, 0, 1, 1, 2, 9])
        condition = min(int(chance.expovariate(0.9)), conditions - 1)
        met = 1 << condition | (1 << chance.randrange(conditions) if chance.random() < 0.05 else 0)
        stream.append((time, 0 if chance.random() < 0.05 else met, 0, chance.choice("abcdef")))
    return stream
