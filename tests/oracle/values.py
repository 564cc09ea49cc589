"""Times, numbers, ids and text: how the oracle reads and writes single values.

A time is an int, microseconds since 1970 in UTC. An amount is a Decimal. Absent is None.
"""

import hashlib
import re
from datetime import datetime, timedelta, timezone
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
SECOND = 1_000_000
DAY = 86_400 * SECOND
UNITS = {"us": 1, "ms": 1_000, "s": SECOND, "m": 60 * SECOND, "h": 3_600 * SECOND, "d": DAY, "w": 7 * DAY}

RFC_3339 = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d+))?(Z|z|[+-]\d\d:\d\d)?"
)
NUMBER = re.compile(r"[+-]?\d+(\.\d+)?")


class Refused(Exception):
    """A record that cannot become an event; `reason` is the code of its dead letter."""

    def __init__(self, reason):
        super().__init__(reason)
        self.reason = reason


def digest(kind, text):
    """First 16 bytes of sha256(kind, 0x00, text)."""
    return hashlib.sha256(kind.encode() + b"\0" + text.encode()).digest()[:16]


def content_id(kind, text):
    return digest(kind, text).hex()


def parse_time(text):
    """RFC 3339 with an offset, to the microsecond (further digits are cut off)."""
    match = RFC_3339.fullmatch(text)
    if not match:
        raise Refused("ts_invalid")
    year, month, day, hour, minute, second = (int(part) for part in match.groups()[:6])
    micros = int(((match[7] or "") + "000000")[:6])
    offset = match[8]
    if offset is None:
        raise Refused("tz_invalid")
    try:
        instant = datetime(year, month, day, hour, minute, second, micros, timezone.utc)
    except ValueError:
        raise Refused("ts_invalid") from None
    shift = timedelta(0)
    if offset not in "Zz":
        hours, minutes = int(offset[1:3]), int(offset[4:6])
        if hours > 23 or minutes > 59:
            raise Refused("tz_invalid")
        shift = timedelta(hours=hours, minutes=minutes) * (-1 if offset[0] == "-" else 1)
    return (instant - shift - EPOCH) // timedelta(microseconds=1)


def parse_amount(text):
    """A plain decimal number, and nothing else; digits behind the fourth place are rounded, halves away from zero."""
    if not NUMBER.fullmatch(text):
        raise Refused("type_mismatch")
    return Decimal(text).quantize(Decimal("0.0001"), ROUND_HALF_UP)


def parse_duration(text):
    """`30m`, `7d`, `1h 30m`."""
    parts = re.findall(r"(\d+)\s*([a-z]+)", text)
    if not parts or re.sub(r"\d+\s*[a-z]+|\s", "", text):
        raise ValueError(f"not a duration: {text}")
    return sum(int(number) * UNITS[unit] for number, unit in parts)


def day_of(time):
    return time // DAY


def percentile(micros, fraction):
    """Exact percentile_cont of durations in microseconds, answered in seconds; None of nothing."""
    if not micros:
        return None
    ordered = sorted(micros)
    index = Fraction(fraction) * (len(ordered) - 1)
    low = int(index)
    high = min(low + 1, len(ordered) - 1)
    exact = ordered[low] + (ordered[high] - ordered[low]) * (index - low)
    return float(exact / SECOND)


def median(micros):
    return percentile(micros, Fraction(1, 2))


def mean(amounts):
    if not amounts:
        return None
    return float(sum(Fraction(amount) for amount in amounts) / len(amounts))


def ratio(part, whole):
    return part / whole if whole else None


class Time(int):
    """Marks a number that is written as a timestamp."""


class Day(int):
    """Marks a number of days since 1970 that is written as a date."""


def as_text(value):
    """How a value stands in an expected CSV: text; nothing for null."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Time):
        return (EPOCH + timedelta(microseconds=int(value))).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    if isinstance(value, Day):
        return (EPOCH + timedelta(days=int(value))).strftime("%Y-%m-%d")
    if isinstance(value, Decimal):
        return f"{value:.4f}"
    if isinstance(value, float):
        return repr(value)
    return str(value)
