"""Holds the published files of a lake against what BI tools rely on (pipeline/docs/definitions.md).

Usage: bi_contract.py LAKE
Prints JSON: {"marts": [names], "wrong": [sentences]}.
"""

import json
import os
import re
import sys
from pathlib import Path

import duckdb
import polars
import pyarrow as pa
import pyarrow.parquet as pq

# Reserved words of PostgreSQL 18, appendix C of its manual.
POSTGRES = set(
    """all analyse analyze and any array as asc asymmetric both case cast check collate column constraint create
    current_catalog current_date current_role current_time current_timestamp current_user default deferrable desc distinct
    do else end except false fetch for foreign from grant group having in initially intersect into lateral leading limit
    localtime localtimestamp not null offset on only or order placing primary references returning select session_user some
    symmetric system_user table then to trailing true union unique user using variadic when where window with""".split()
)
DUCKDB = {word for word, in duckdb.sql("select keyword_name from duckdb_keywords() where keyword_category = 'reserved'").fetchall()}
TYPES = {"VARCHAR", "BIGINT", "DOUBLE", "BOOLEAN", "DATE", "TIMESTAMP WITH TIME ZONE"}
wrong = []


def expect(truth, sentence):
    if not truth:
        wrong.append(sentence)


def of_name(name, place):
    expect(re.fullmatch("[a-z][a-z0-9_]*", name), f"{place} is not lower snake_case")
    expect(name not in POSTGRES | DUCKDB, f"{place} is a reserved word")


def of_type(name, kind, unit, place):
    expect(kind in TYPES or kind.startswith("DECIMAL("), f"{place} has type {kind}")
    for ending, wanted in {"_at": "TIMESTAMP WITH TIME ZONE", "_date": "DATE", "_seconds": "DOUBLE", "_rate": "DOUBLE"}.items():
        if name.endswith(ending):
            expect(kind == wanted, f"{place} has type {kind}, expected {wanted}")
    if name.startswith(("is_", "has_")):
        expect(kind == "BOOLEAN", f"{place} has type {kind}, expected BOOLEAN")
    if unit == "units of currency":
        expect(kind.startswith("DECIMAL("), f"{place} is money of type {kind}")


def of_file(path, mart, name, day):
    file = pq.ParquetFile(path)
    schema = file.schema_arrow
    for field in schema:
        expect(not pa.types.is_nested(field.type), f"{path}: {field.name} is nested")
        if pa.types.is_timestamp(field.type):
            expect(field.type == pa.timestamp("us", "UTC"), f"{path}: {field.name} is {field.type}")
    wanted = [column["name"] for column in mart["columns"] if column["name"] != day]
    expect(schema.names == wanted, f"{path} has columns {schema.names}, the catalog has {wanted}")
    said = {key.decode(): value.decode() for key, value in (schema.metadata or {}).items()}
    expect(said.get("wayline.table") == name, f"{path} does not say that it is {name}")
    expect(said.get("wayline.description") == mart["description"] != "", f"{path} is not described")
    expect(said.get("wayline.grain") == ", ".join(mart["grain"]) != "", f"{path} does not tell its grain")
    columns = json.loads(said.get("wayline.columns", "[]"))
    expect([column["name"] for column in columns] == [column["name"] for column in mart["columns"]], f"{path}: columns are not described")
    in_catalog = [{key: column[key] for key in ("name", "description", "unit")} for column in mart["columns"]]
    expect(columns == in_catalog, f"{path} says of its columns what the catalog does not")
    # DuckDB sees the same words.
    rows = duckdb.execute("select decode(key), decode(value) from parquet_kv_metadata(?)", [str(path)]).fetchall()
    expect(dict(rows).get("wayline.columns") == said.get("wayline.columns"), f"{path}: DuckDB does not see the words")


def of_mart(lake, name, mart):
    of_name(name, name)
    day = (re.search(r"/([a-z0-9_]+)=\*/", mart["path"]) or [None, None])[1]
    for path in mart["files"]:
        of_file(lake / path, mart, name, day)
    if not mart["files"]:
        return
    seen = duckdb.sql(f"select * from read_parquet('{lake / mart['path']}', hive_partitioning = true)")
    types = dict(zip(seen.columns, map(str, seen.types)))
    expect(sorted(types) == sorted(column["name"] for column in mart["columns"]), f"{name}: DuckDB sees {list(types)}")
    for column in mart["columns"]:
        place = f"{name}.{column['name']}"
        of_name(column["name"], place)
        of_type(column["name"], types[column["name"]], column["unit"], place)
        expect(column["description"], f"{place} is not described")
        if column["unit"] == "0 to 1":
            low, high = seen.aggregate(f"coalesce(min({column['name']}), 0), coalesce(max({column['name']}), 1)").fetchall()[0]
            expect(0 <= low and high <= 1, f"{place} goes from {low} to {high}")
    doubled = seen.aggregate(", ".join([*mart["grain"], "count(*) as rows"]), ", ".join(mart["grain"])).filter("rows > 1")
    expect(not doubled.fetchall(), f"{name}: rows share the grain {mart['grain']}")
    rows = seen.aggregate("count(*)").fetchall()[0][0]
    frame = polars.scan_parquet(lake / mart["path"], hive_partitioning=True).collect()
    expect(rows == mart["rows"] == frame.height, f"{name}: {rows} rows in DuckDB, {frame.height} in Polars, {mart['rows']} in the catalog")


def main():
    lake = Path(sys.argv[1])
    catalog = json.loads((lake / "catalog.json").read_text())
    named = {path for mart in catalog["marts"].values() for path in mart["files"]}
    there = {str(path.relative_to(lake)) for path in (lake / "marts").rglob("*") if path.is_file()}
    expect(named == there, f"under marts/, but not in the catalog, or the other way round: {named ^ there}")
    for name, mart in catalog["marts"].items():
        of_mart(lake, name, mart)
    print(json.dumps({"marts": list(catalog["marts"]), "wrong": wrong}), flush=True)


main()
# As in open_elsewhere.py.
os._exit(0)
