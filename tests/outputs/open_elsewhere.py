"""Opens a lake with the tools that its readers use, and prints what they see.

Usage: open_elsewhere.py LAKE
Prints JSON: {"marts": {name: {tool: [rows, sums]}}, "tables": {folder: [rows, sums]}}, where sums maps each number column to
its sum as text with six digits after the point. The caller compares them with what `wayline sql` says.

A mart is one file or, by day, a folder; both are read with each library's defaults, as somebody would who knows nothing
of us. Every tool must see every column of the catalog, also the day that stands in the paths.
"""

import json
import os
import sys
from decimal import Decimal
from pathlib import Path

import duckdb
import polars
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import DeltaTable

NUMBERS = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal)


def shown(number):
    """A sum as text; nothing at all adds up to zero."""
    return f"{Decimal(0) if number is None else Decimal(str(number)):.6f}"


def number_columns(schema):
    return [field.name for field in schema if any(test(field.type) for test in NUMBERS)]


def of_arrow(table):
    return [table.num_rows, {name: shown(pc.sum(table[name]).as_py()) for name in number_columns(table.schema)}]


def in_pyarrow(place):
    # This is what pandas.read_parquet calls.
    table = pq.read_table(place)
    nested = [field.name for field in table.schema if pa.types.is_nested(field.type)]
    assert not nested, f"{place} is not flat: {nested}"
    return table.schema.names, of_arrow(table)


def in_duckdb(place, numbers):
    glob = f"{place}/**/*.parquet" if place.is_dir() else str(place)
    relation = duckdb.sql(f"select * from read_parquet('{glob}')")
    sums = ", ".join(["count(*)", *(f'sum("{name}")' for name in numbers)])
    row = relation.aggregate(sums).fetchall()[0]
    return relation.columns, [row[0], dict(zip(numbers, map(shown, row[1:])))]


def in_polars(place, numbers):
    frame = polars.read_parquet(place)
    return frame.columns, [frame.height, {name: shown(frame[name].sum()) for name in numbers}]


def open_mart(place, wanted):
    names, seen = in_pyarrow(place)
    numbers = list(seen[1])
    found = {"pyarrow": (names, seen), "duckdb": in_duckdb(place, numbers), "polars": in_polars(place, numbers)}
    for tool, (names, _) in found.items():
        assert sorted(names) == sorted(wanted), f"{place} in {tool} has {names}, expected {wanted}"
    return {tool: seen for tool, (_, seen) in found.items()}


def main():
    lake = Path(sys.argv[1])
    catalog = json.loads((lake / "catalog.json").read_text())
    marts = {}
    for name, mart in catalog["marts"].items():
        if mart["files"]:
            place = lake / mart["path"].split("/", 2)[0] / mart["path"].split("/", 2)[1]
            marts[name] = open_mart(place, [column["name"] for column in mart["columns"]])
            # One of the files alone, as somebody opens a day.
            pq.read_table(lake / next(iter(mart["files"])))
    tables = {}
    for folder in sorted(path.parent for path in lake.glob("*/*/_delta_log")):
        # pyarrow's own dataset reads the files that the log names, as most Python tools do.
        tables[str(folder.relative_to(lake))] = of_arrow(pa.table(DeltaTable(str(folder)).to_pyarrow_table()))
    strays = [str(path) for path in (lake / "marts").rglob("*") if path.is_file() and path.suffix != ".parquet"]
    assert not strays, f"foreign files under marts/: {strays}"
    print(json.dumps({"marts": marts, "tables": tables}), flush=True)


main()
# The libraries' threads are still there: a regular end of the interpreter now and then dies in their destructors, after all
# is said.
os._exit(0)
