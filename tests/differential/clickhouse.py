"""Compares functions that bear the names of ClickHouse's with ClickHouse itself, over random streams of events.

Usage: clickhouse.py WAYLINE [--streams N] [--seed S] [--only NAME], or clickhouse.py --list
WAYLINE is the binary; ClickHouse runs inside this process (package `chdb`). Both get the same rows, ours in random order.
Prints per function how many answers were compared, each known difference with how often it came, and each unlisted one (the
first few); then the counts as one line of JSON. Exits with 1 if there is an unlisted difference, or a listed one no longer
shows on its example.
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
from pathlib import Path

import chdb
from patterns import spread
from questions import FUNCTIONS, Case, Suite
from streams import MOST_CONDITIONS

SHOWN = 10
CASES_PER_QUERY = 60
SETTINGS = (
    # One thread, and a sort that ClickHouse would drop as of no use to an aggregate: equal times come as a case orders them.
    "max_threads = 1, query_plan_remove_redundant_sorting = 0, allow_experimental_funnel_functions = 1, "
    "output_format_json_quote_64bit_integers = 0"
)
NULL = "~"


def parts(cases):
    return [cases[start : start + CASES_PER_QUERY] for start in range(0, len(cases), CASES_PER_QUERY)]


def ask_clickhouse(streams, suite, folder, has_nulls):
    """Per stream the answers of ClickHouse; with `has_nulls` unknown conditions are null, without they are false."""
    path = Path(folder, "rows.csv")
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        for number, rows in enumerate(streams):
            for time, met, unknown, value in rows:
                writer.writerow((number, "\\N" if time is None else time, met, unknown, "\\N" if value is None else value))
    rows = [row for stream in streams for row in stream]
    time = "Nullable(Int64)" if any(row[0] is None for row in rows) else "Int64"
    value = "Nullable(String)" if any(row[3] is None for row in rows) else "String"
    has_nulls = has_nulls and any(row[2] for row in rows)

    def column(k):
        met = f"bitTest(m, {k})"
        return f"{f'if(bitTest(n, {k}), null, {met})' if has_nulls else met} as c{k + 1}"

    columns = ", ".join(map(column, range(MOST_CONDITIONS)))
    names = ", ".join(f"c{k + 1}" for k in range(MOST_CONDITIONS))
    table = f"file('{path}', 'CSV', 'g UInt32, t {time}, m UInt32, n UInt32, v {value}')"
    answers = {number: [] for number in range(len(streams))}
    for order, group in itertools.groupby(suite.cases, key=lambda case: case.order):
        for part in parts(list(group)):
            sql = (
                f"select g, {', '.join(case.theirs for case in part)} from (select g, ts as t, v, {names} from "
                f"(select g, {suite.time.theirs} as ts, m, v, {columns} from {table}) order by g, ts, {order}) "
                f"group by g settings {SETTINGS}"
            )
            for line in str(chdb.query(sql, "JSONCompactEachRow")).splitlines():
                number, *values = json.loads(line)
                answers[number] += [case.translate(value) for case, value in zip(part, values)]
    return answers


def ask_wayline(streams, suite, folder, wayline, chance):
    """Per stream our answers. The rows stand in the query itself, as one text."""
    rows = [(number, *row) for number, stream in enumerate(streams) for row in stream]
    chance.shuffle(rows)
    text = ";".join(",".join(NULL if field is None else str(field) for field in row) for row in rows)
    conditions = ", ".join(
        f"case when n & {1 << k} > 0 then null else m & {1 << k} > 0 end as c{k + 1}" for k in range(MOST_CONDITIONS)
    )
    fields = [f"nullif(split_part(row, ',', {number}), '{NULL}')" for number in range(1, 6)]
    answers = {number: [] for number in range(len(streams))}
    for part in parts(suite.cases):
        sql = (
            "with texts as (select unnest(string_to_array('" + text + "', ';')) as row), "
            f"rows as (select {', '.join(f'cast({fields[k]} as bigint) as {name}' for k, name in enumerate('gtmn'))}, "
            f"{fields[4]} as v from texts), "
            f"events as (select g, {suite.time.ours} as t, v, {conditions} from rows) "
            f"select g, {', '.join(f'{case.ours} as a{number}' for number, case in enumerate(part))} "
            "from events group by g order by g"
        )
        path = Path(folder, "query.sql")
        path.write_text(sql)
        command = [wayline, "sql", "-f", path, "--format", "csv", "--project", folder]
        result = subprocess.run(command, capture_output=True, text=True)
        if result.returncode != 0:
            raise RuntimeError(result.stderr[-2000:])
        csv.field_size_limit(sys.maxsize)
        for number, *cells in itertools.islice(csv.reader(io.StringIO(result.stdout)), 1, None):
            answers[int(number)] += [case.read(cell) for case, cell in zip(part, cells)]
    return answers


class Comparison:
    """What came out for a function."""

    def __init__(self, function):
        self.function = function
        self.compared = 0
        self.listed = {difference.reason: 0 for difference in function.differences}
        self.unlisted = []

    def suite(self, suite, streams, folder, wayline, chance):
        ours = ask_wayline(streams, suite, folder, wayline, chance)
        asked = [spread(stream, suite.spreads) for stream in streams] if suite.spreads else streams
        theirs = ask_clickhouse(asked, suite, folder, has_nulls=False)
        with_nulls = theirs
        if any(row[2] for stream in streams for row in stream):
            with_nulls = ask_clickhouse(asked, suite, folder, has_nulls=True)
        for number, stream in enumerate(streams):
            for position, case in enumerate(suite.cases):
                our, their, with_null = ours[number][position], theirs[number][position], with_nulls[number][position]
                self.compared += 1
                if our == their:
                    if with_null != their and not self.count(lambda known: known.is_of_nulls):
                        self.unlisted.append(f"{case.ours} on {sorted(stream, key=str)[:60]}: {our}, ClickHouse {with_null}")
                elif not self.count(lambda known: known.applies(case, stream, our, their)):
                    self.unlisted.append(f"{case.ours} on {sorted(stream, key=str)[:60]}: {our}, ClickHouse {their}")

    def count(self, is_it):
        reason = next((difference.reason for difference in self.function.differences if is_it(difference)), None)
        if reason is not None:
            self.listed[reason] += 1
        return reason is not None

    def example(self, difference, folder, wayline, chance):
        """The example of a difference shows it: other answers, or only one side has any."""
        example = difference.example
        suite = Suite([Case(example.theirs, example.ours, str, example.order)], None, time=example.time)

        def answer(ask, *more):
            try:
                return ask([example.rows], suite, folder, *more)[0]
            except RuntimeError:
                return None

        their = answer(ask_clickhouse, True)
        # A case reads our cell by itself; here it is enough that it reads as ClickHouse's does.
        our = answer(ask_wayline, wayline, chance)
        plain = self.plain(their), self.plain(our)
        if (their is None and our is None) or plain[0] == plain[1]:
            self.unlisted.append(f"no longer: {difference.reason} ({example.theirs}: {their}, {example.ours}: {our})")
        else:
            self.compared += 1
            self.count(lambda other: other is difference)

    @staticmethod
    def plain(answers):
        words = {"True": "1", "true": "1", "False": "0", "false": "0", "None": ""}
        return answers and [
            [words.get(word, word) for word in str(answer).strip("[]").split(", ")] for answer in answers
        ]

    def show(self):
        print(f"{self.function.name}: {self.compared} answers, {len(self.unlisted)} unlisted differences")
        for reason, count in self.listed.items():
            print(f"  {count} listed: {reason}")
        for difference in self.unlisted[:SHOWN]:
            print(f"  {difference}")


def compare(function, options):
    chance = random.Random(f"{options.seed} {function.name}")
    comparison = Comparison(function)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "wayline.toml").write_text('[lake]\nurl = "lake"\n')
        for suite in function.suites:
            streams = [suite.stream(chance) for _ in range(max(1, round(options.streams * suite.share)))]
            comparison.suite(suite, streams, folder, options.wayline, chance)
        for difference in (known for known in function.differences if known.example):
            comparison.example(difference, folder, options.wayline, chance)
    comparison.show()
    return comparison


def main():
    parser = argparse.ArgumentParser(description="Compares functions with ClickHouse's over random streams.")
    parser.add_argument("wayline", help="the binary", nargs="?")
    parser.add_argument("--list", action="store_true", help="print each function and its known differences, as JSON")
    parser.add_argument("--streams", type=int, default=1500, help="streams of a function's first suite")
    parser.add_argument("--seed", type=int, default=1)
    names = [function.name for function in FUNCTIONS]
    parser.add_argument("--only", choices=names, action="append", help="one function; may repeat")
    options = parser.parse_args()
    if options.list:
        listed = {
            function.name: {"theirs": function.theirs, "differences": [d.reason for d in function.differences]}
            for function in FUNCTIONS
        }
        print(json.dumps(listed))
        return
    if not options.wayline:
        parser.error("the binary is missing")
    functions = [function for function in FUNCTIONS if not options.only or function.name in options.only]
    comparisons = [compare(function, options) for function in functions]
    print(json.dumps({one.function.name: {"answers": one.compared, "listed": one.listed} for one in comparisons}))
    sys.exit(1 if any(comparison.unlisted for comparison in comparisons) else 0)


if __name__ == "__main__":
    main()
