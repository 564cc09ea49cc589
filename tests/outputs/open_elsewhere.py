"""Opens a lake with the tools that its readers use, and prints what they see.

Usage: open_elsewhere.py LAKE
Prints JSON: {"marts": {name: {tool: [rows, sums]}}, "tables": {folder: [rows, sums]}}, where sums maps each number column to
its sum as text with six digits after the point. The caller compares them with what `wayline sql` says.
"""

import json
import sys
from decimal import Decimal
from pathlib import Path

import duckdb
import polars
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from deltalake import DeltaTable

NUMBERS = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal)


def shown(number):
    """A sum as text; nothing at all adds up to zero."""
    return f"{Decimal(0) if number is None else Decimal(str(number)):.6f}"


def number_columns(schema):
    return [field.name for field in schema if any(test(field.type) for test in NUMBERS)]


def of_arrow(table):
    return [table.num_rows, {name: shown(pc.sum(table[name]).as_py()) for name in number_columns(table.schema)}]


def of_duckdb(glob, columns):
    # A day's folder names its date; the column of that name is in the file too, so the path need not be read.
    sums = ", ".join(f'sum("{name}")' for name in columns)
    row = duckdb.sql(f"select count(*){', ' + sums if sums else ''} from read_parquet('{glob}', hive_partitioning = false)").fetchall()[0]
    return [row[0], dict(zip(columns, map(shown, row[1:])))]


def of_polars(glob, columns):
    frame = polars.scan_parquet(glob, hive_partitioning=False).select(
        polars.len().alias("rows"), *[polars.col(name).sum() for name in columns]
    )
    row = frame.collect().row(0)
    return [row[0], dict(zip(columns, map(shown, row[1:])))]


def main():
    lake = Path(sys.argv[1])
    catalog = json.loads((lake / "catalog.json").read_text())
    marts = {}
    for name, mart in catalog["marts"].items():
        glob = str(lake / mart["path"])
        files = [str(lake / path) for path in mart["files"]]
        if not files:
            continue
        table = ds.dataset(files, format="parquet").to_table()
        columns = number_columns(table.schema)
        nested = [field.name for field in table.schema if pa.types.is_nested(field.type)]
        assert not nested, f"{name} is not flat: {nested}"
        marts[name] = {"pyarrow": of_arrow(table), "duckdb": of_duckdb(glob, columns), "polars": of_polars(glob, columns)}
    tables = {}
    for folder in sorted(path.parent for path in lake.glob("*/*/_delta_log")):
        # pyarrow's own dataset reads the files that the log names, as most Python tools do.
        tables[str(folder.relative_to(lake))] = of_arrow(pa.table(DeltaTable(str(folder)).to_pyarrow_table()))
    strays = [str(path) for path in (lake / "marts").rglob("*") if path.is_file() and path.suffix != ".parquet"]
    assert not strays, f"foreign files under marts/: {strays}"
    print(json.dumps({"marts": marts, "tables": tables}))


main()
