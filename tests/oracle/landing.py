"""From files to events: decode, map, refuse, drop duplicates. Everything lands in one batch, number 1."""

import csv
import glob
import gzip
import json
import math
import time
from collections import defaultdict
from pathlib import Path

from identity import usable
from mapping import Expression
from values import DAY, SECOND, Day, Refused, Time, content_id, day_of, median, parse_amount, parse_time, percentile

BATCH = 1
TEXTS = ["touchpoint", "channel", "direction", "stage", "campaign", "experiment", "variant", "currency", "score_kind"]


class Number(str):
    """A JSON number, as it was written."""


def json_records(text):
    """(line, record text, columns or the Refused) of each line that is not blank."""
    for line, record in enumerate(text.split("\n"), start=1):
        if not record.strip():
            continue
        try:
            columns = json.loads(record, parse_int=Number, parse_float=Number, parse_constant=not_json)
            if not isinstance(columns, dict):
                columns = Refused("not_object")
        except json.JSONDecodeError as error:
            columns = Refused("json_trailing_data" if error.msg == "Extra data" else "json_syntax")
        yield line, record, columns


def not_json(constant):
    raise json.JSONDecodeError(f"{constant} is not JSON", constant, 0)


def csv_records(text):
    """The same for CSV; a record may hold newlines inside quotes, an empty field is null."""
    header, pending, first = None, "", 0
    for line, part in enumerate(text.split("\n"), start=1):
        if not pending:
            first = line
            if not part.strip():
                continue
        pending = f"{pending}\n{part}" if pending else part
        if pending.count('"') % 2:
            continue
        record, pending = pending, ""
        fields = next(csv.reader([record], strict=True))
        if header is None:
            header = fields
        elif len(fields) != len(header):
            yield first, record, Refused("csv_columns")
        else:
            yield first, record, {name: field or None for name, field in zip(header, fields)}


def read_text(path):
    data = Path(path).read_bytes()
    return (gzip.decompress(data) if path.endswith(".gz") else data).decode()


def required(text):
    if text is None or text == "":
        raise Refused("missing_field")
    return text


def to_event(expressions, identifiers, columns):
    """One event from the columns of one record; raises Refused."""
    if isinstance(columns, Refused):
        raise columns
    found = {name: expression(columns) for name, expression in expressions.items()}
    event = {name: found.get(name) for name in ["event_id", *TEXTS]}
    required(event["touchpoint"])
    required(event["channel"])
    event["occurred_at"] = parse_time(required(found.get("occurred_at")))
    event["received_at"] = parse_time(required(found.get("received_at")))
    for name in ["value", "score"]:
        event[name] = None if found.get(name) is None else parse_amount(found[name])
    named = [(kind, expression(columns)) for kind, expression in identifiers.items()]
    event["identifiers"] = named
    return event


def land(project, config):
    """Events without duplicates, dead letters, duplicates, and the row counts of every source."""
    blocked = config.get("identity", {}).get("blocked", [])
    records, dead_letters, counts = [], [], {}
    for number, source in enumerate(config["sources"]):
        name = source["name"]
        mapping = dict(source["event"])
        identifiers = {kind: Expression(text) for kind, text in mapping.pop("identifiers", {}).items()}
        expressions = {column: Expression(text) for column, text in mapping.items()}
        paths = sorted(glob.glob(source["path"], root_dir=project))
        count = counts[name] = defaultdict(int, files=len(paths))
        for path in paths:
            seen = defaultdict(int)
            count["bytes"] += (project / path).stat().st_size
            stem = path.removesuffix(".gz")
            kind = source.get("format") or stem.rsplit(".", 1)[-1]
            read = csv_records if kind == "csv" else json_records
            for line, text, columns in read(read_text(str(project / path))):
                count["rows_in"] += 1
                origin = f"{path}:{line}"
                try:
                    event = to_event(expressions, identifiers, columns)
                except Refused as refused:
                    count["dead_letters"] += 1
                    dead_letters.append({"source": name, "origin": origin, "reason": refused.reason, "record": text})
                    continue
                if event["event_id"] is None:
                    seen[text] += 1
                    event["event_id"] = content_id("record", f"{name}\n{text}\n{seen[text]}")
                event["identifiers"] = usable(event["identifiers"], blocked)
                event.update(source=name, origin=origin, place=(number, path, line))
                records.append(event)
    events, duplicates = without_duplicates(records)
    for event in duplicates:
        counts[event["source"]]["duplicates"] += 1
    for event in events:
        counts[event["source"]]["landed"] += 1
    return events, dead_letters, duplicates, counts


def without_duplicates(records):
    """Of one event_id the record received first stays, then the one that stands first."""
    by_id = defaultdict(list)
    for event in records:
        by_id[event["event_id"]].append(event)
    events, duplicates = [], []
    for same in by_id.values():
        same.sort(key=lambda event: (event["received_at"], event["place"]))
        events.append(same[0])
        duplicates.extend(same[1:])
    return events, duplicates


def newest_sane(events, tolerance, planned_at=None):
    """as-of: the newest event that is not further ahead of its own receipt, nor of the landing (now), than is tolerated."""
    now = time.time_ns() // 1_000 if planned_at is None else planned_at
    sane = (event for event in events if event["occurred_at"] - min(event["received_at"], now) <= tolerance)
    return max((event["occurred_at"] for event in sane), default=None)


# Ranges of lateness without overlap; what is early counts as not late.
LATENESS = [
    ("late_up_to_1h", -math.inf, DAY // 24),
    ("late_1h_to_1d", DAY // 24, DAY),
    ("late_1d_to_7d", DAY, 7 * DAY),
    ("late_7d_to_30d", 7 * DAY, 30 * DAY),
    ("late_over_30d", 30 * DAY, math.inf),
]


def data_quality(events, counts, tolerance, as_of):
    rows = []
    for source, count in counts.items():
        landed = [event for event in events if event["source"] == source]
        lateness = [event["received_at"] - event["occurred_at"] for event in landed]
        rows.append({
            "source": source, "batch": BATCH,
            **{name: count[name] for name in ["rows_in", "landed", "duplicates", "dead_letters", "files", "bytes"]},
            "late_events": sum(late > DAY for late in lateness),
            **{name: sum(low < late <= high for late in lateness) for name, low, high in LATENESS},
            "future_events": sum(-late > tolerance for late in lateness),
            "median_lateness_seconds": median(lateness),
            "max_lateness_seconds": percentile(lateness, 1),
            "freshness_seconds": freshness(landed, as_of),
            "newest_occurred_at": Time(max(event["occurred_at"] for event in landed)) if landed else None,
        })
    return rows


def freshness(landed, as_of):
    """Seconds from the newest event of a source that has happened by as-of to then."""
    newest = max((event["occurred_at"] for event in landed if event["occurred_at"] <= as_of), default=None)
    return None if newest is None else (as_of - newest) / SECOND


def event_columns(event):
    """The contract's columns that do not depend on how a writer spells JSON or names a batch."""
    return {
        "event_id": event["event_id"],
        "occurred_at": Time(event["occurred_at"]),
        "received_at": Time(event["received_at"]),
        "source": event["source"],
        "channel": event["channel"],
        "touchpoint": event["touchpoint"],
        **{name: event[name] for name in ["direction", "stage", "campaign", "experiment", "variant", "value",
                                          "currency", "score_kind", "score"]},
        "occurred_date": Day(day_of(event["occurred_at"])),
    }
