"""Compares functions that bear the names of ClickHouse's with ClickHouse itself, over random streams of events.

Usage: clickhouse.py WAYLINE [--streams N] [--seed S] [--only NAME], or clickhouse.py --list
WAYLINE is the binary; ClickHouse runs inside this process (package `chdb`). Both get the same rows, ours in random order.
Prints, per function, how many answers were compared, how many differ as listed, and each unlisted difference (the first
few); exits with 1 if there is one.

A function is one entry of ENTRIES: its streams, its cases (the same question to both), and the differences that are known,
each with its reason. A stream is a list of rows (time, conditions, value): `conditions` has bit k set if c(k+1) holds.
"""

import argparse
import csv
import io
import itertools
import json
import random
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable

import chdb

CONDITIONS = 5
SHOWN = 10
CASES_PER_QUERY = 60


@dataclass
class Case:
    """One question: ClickHouse's expression, ours, and how to read our cell of CSV."""

    theirs: str
    ours: str
    read: Callable[[str], object]


@dataclass
class Known:
    """A known difference: why, and whether it may occur in a case on a stream."""

    reason: str
    applies: Callable[[Case, list], bool]


@dataclass
class Entry:
    name: str
    cases: list
    stream: Callable[[random.Random], list]
    known: list = field(default_factory=list)


# Streams -----------------------------------------------------------------------------------------------------------------


def any_stream(chance):
    """Up to 12 rows over few instants: ties, equal rows, rows that meet no condition, one, or several."""
    span = chance.choice([1, 2, 4, 8, 20])
    density = chance.choice([0.15, 0.35, 0.6])
    rows = []
    for _ in range(chance.randint(1, 12)):
        if chance.random() < 0.5:
            conditions = 1 << chance.randrange(CONDITIONS)
        else:
            conditions = sum((chance.random() < density) << k for k in range(CONDITIONS))
        rows.append((chance.randint(0, span), conditions, chance.choice("abcdef")))
    return rows


def stream_without_ties(chance):
    """For functions whose order of equal times ClickHouse leaves open."""
    rows = any_stream(chance)
    times = sorted(chance.sample(range(2 * len(rows)), len(rows)))
    return [(time, conditions, value) for time, (_, conditions, value) in zip(times, rows)]


def stream_of_distinct_values(chance):
    """ClickHouse orders equal times by value and leaves open the order of rows that share both."""
    rows = {(time, value): conditions for time, conditions, value in any_stream(chance)}
    return [(time, conditions, value) for (time, value), conditions in rows.items()]


# Cells -------------------------------------------------------------------------------------------------------------------


def to_bool(cell):
    return {"true": 1, "false": 0}[cell]


def to_numbers(cell):
    return [int(number) for number in cell.strip("[]").split(", ") if number]


def to_bools(cell):
    return [to_bool(word) for word in cell.strip("[]").split(", ") if word]


def to_text(cell):
    return cell or None


# Entries -----------------------------------------------------------------------------------------------------------------


def conditions(count):
    return ", ".join(f"c{k + 1}" for k in range(count))


def quoted(words):
    return "".join(f", '{word}'" for word in words)


def mode_combinations():
    strict = ["strict_deduplication", "strict_order", "strict_increase", "strict_once"]
    for size in range(len(strict) + 1):
        for modes in itertools.combinations(strict, size):
            for more in [(), ("allow_reentry",)] if "strict_order" in modes else [()]:
                yield modes + more


def window_funnel_cases():
    for steps, window, modes in itertools.product(range(1, CONDITIONS + 1), (0, 3, 7), list(mode_combinations())):
        mode = f" '{'|'.join(modes)}'," if modes else ""
        yield Case(
            f"windowFunnel({window}{quoted(modes)})(t, {conditions(steps)})",
            f"window_funnel({window},{mode} t, {conditions(steps)})",
            int,
        )


PATTERNS = [
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


def sequence_cases(theirs, ours, read):
    for pattern in PATTERNS:
        yield Case(f"{theirs}('{pattern}')(t, c1, c2, c3)", f"{ours}('{pattern}', t, c1, c2, c3)", read)


def next_node_cases():
    kinds = [("forward", base) for base in ("head", "first_match", "last_match")]
    kinds += [("backward", base) for base in ("tail", "first_match", "last_match")]
    for (direction, base), events in itertools.product(kinds, ("c1", "c1, c2", "c1, c2, c3")):
        for base_condition in ("c1", "c4", "true"):
            yield Case(
                f"sequenceNextNode('{direction}', '{base}')(t, v, {base_condition}, {events})",
                f"sequence_next_node('{direction}', '{base}', t, v, {base_condition}, {events})",
                to_text,
            )


def retention_cases():
    for count in range(2, CONDITIONS + 1):
        yield Case(f"retention({conditions(count)})", f"retention({conditions(count)})", to_bools)


ENTRIES = [
    Entry("window_funnel", list(window_funnel_cases()), any_stream),
    Entry("sequence_match", list(sequence_cases("sequenceMatch", "sequence_match", to_bool)), stream_without_ties),
    Entry("sequence_count", list(sequence_cases("sequenceCount", "sequence_count", int)), stream_without_ties),
    Entry(
        "sequence_match_events",
        list(sequence_cases("sequenceMatchEvents", "sequence_match_events", to_numbers)),
        stream_without_ties,
    ),
    Entry("sequence_next_node", list(next_node_cases()), stream_of_distinct_values),
    Entry("retention", list(retention_cases()), any_stream),
]


# Answers -----------------------------------------------------------------------------------------------------------------


def ask_clickhouse(streams, cases, folder):
    """Per stream the answers of ClickHouse.

    Rows are put in as (time, conditions), in one thread: where rows of one instant meet the same step,
    `strict_once` with `strict_deduplication` goes by their order, and this is ours. The setting keeps the sort, which
    ClickHouse would drop as of no use to an aggregate.
    """
    path = Path(folder, "rows.csv")
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows((number, *row) for number, rows in enumerate(streams) for row in rows)
    columns = ", ".join(f"bitTest(m, {k}) as c{k + 1}" for k in range(CONDITIONS))
    # Steps are the first conditions of a case, so that the order of rows is asked for by their number.
    answers = {number: [] for number in range(len(streams))}
    for steps, group in itertools.groupby(cases, key=lambda case: case.theirs.count(", c")):
        for part in parts(list(group)):
            sql = (
                f"select g, {', '.join(case.theirs for case in part)} from (select g, t, v, {columns} "
                f"from file('{path}', 'CSV', 'g UInt32, t UInt32, m UInt32, v String') "
                f"order by g, t, bitAnd(m, {(1 << steps) - 1}), m) group by g settings max_threads = 1, "
                "query_plan_remove_redundant_sorting = 0, allow_experimental_funnel_functions = 1, "
                "output_format_json_quote_64bit_integers = 0"
            )
            for line in str(chdb.query(sql, "JSONCompactEachRow")).splitlines():
                number, *values = json.loads(line)
                answers[number] += values
    return answers


def ask_wayline(streams, cases, folder, wayline, chance):
    """Per stream our answers. The rows stand in the query itself, as one text."""
    rows = [(number, *row) for number, stream in enumerate(streams) for row in stream]
    chance.shuffle(rows)
    text = ";".join(",".join(map(str, row)) for row in rows)
    columns = ", ".join(f"(m & {1 << k}) > 0 as c{k + 1}" for k in range(CONDITIONS))
    answers = {number: [] for number in range(len(streams))}
    for part in parts(cases):
        sql = (
            "with texts as (select unnest(string_to_array('" + text + "', ';')) as row), "
            "rows as (select cast(split_part(row, ',', 1) as bigint) as g, cast(split_part(row, ',', 2) as bigint) as t, "
            "cast(split_part(row, ',', 3) as bigint) as m, split_part(row, ',', 4) as v from texts), "
            f"events as (select g, t, v, {columns} from rows) "
            f"select g, {', '.join(f'{case.ours} as a{number}' for number, case in enumerate(part))} "
            "from events group by g order by g"
        )
        path = Path(folder, "query.sql")
        path.write_text(sql)
        command = [wayline, "sql", "-f", path, "--format", "csv", "--project", folder]
        result = subprocess.run(command, capture_output=True, text=True)
        if result.returncode != 0:
            sys.exit(f"{wayline} failed with {result.returncode}: {result.stderr[-2000:]}")
        for number, *cells in itertools.islice(csv.reader(io.StringIO(result.stdout)), 1, None):
            answers[int(number)] += [case.read(cell) for case, cell in zip(part, cells)]
    return answers


def parts(cases):
    return [cases[start : start + CASES_PER_QUERY] for start in range(0, len(cases), CASES_PER_QUERY)]


def compare(entry, wayline, stream_count, seed):
    """Prints what came out for an entry; returns the number of unlisted differences."""
    chance = random.Random(f"{seed} {entry.name}")
    streams = [entry.stream(chance) for _ in range(stream_count)]
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "wayline.toml").write_text('[lake]\nurl = "lake"\n')
        theirs = ask_clickhouse(streams, entry.cases, folder)
        ours = ask_wayline(streams, entry.cases, folder, wayline, chance)
    compared, listed, unlisted = 0, {}, []
    for number, stream in enumerate(streams):
        if len(theirs[number]) != len(entry.cases) or len(ours[number]) != len(entry.cases):
            sys.exit(f"{entry.name}: {len(ours[number])} and {len(theirs[number])} answers on a stream, not {len(entry.cases)}")
        for case, our, their in zip(entry.cases, ours[number], theirs[number]):
            compared += 1
            if our == their:
                continue
            reason = next((known.reason for known in entry.known if known.applies(case, stream)), None)
            if reason:
                listed[reason] = listed.get(reason, 0) + 1
            else:
                unlisted.append(f"{case.ours} on {sorted(stream)}: {our}, ClickHouse {their}")
    print(f"{entry.name}: {len(streams)} streams, {len(entry.cases)} cases, {compared} answers, ", end="")
    print(f"{sum(listed.values())} listed differences, {len(unlisted)} unlisted")
    for reason, count in listed.items():
        print(f"  {count}: {reason}")
    for difference in unlisted[:SHOWN]:
        print(f"  {difference}")
    return len(unlisted)


def main():
    parser = argparse.ArgumentParser(description="Compares functions with ClickHouse's over random streams.")
    parser.add_argument("wayline", help="the binary", nargs="?")
    parser.add_argument("--list", action="store_true", help="print the names of the functions that can be compared")
    parser.add_argument("--streams", type=int, default=3000, help="streams per function")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=[entry.name for entry in ENTRIES], action="append", help="one function; may repeat")
    options = parser.parse_args()
    if options.list:
        print("\n".join(entry.name for entry in ENTRIES))
        return
    if not options.wayline:
        parser.error("the binary is missing")
    entries = [entry for entry in ENTRIES if not options.only or entry.name in options.only]
    differences = [compare(entry, options.wayline, options.streams, options.seed) for entry in entries]
    sys.exit(1 if any(differences) else 0)


if __name__ == "__main__":
    main()
