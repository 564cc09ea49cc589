"""Opens the starters that `wayline export` wrote.

Usage: starters.py FOLDER, which holds duckdb/, dbt-sources/, grafana/, evidence/ and powerbi/.
Prints JSON: what DuckDB sees of the views ({"views": {name: [rows, columns, comments]}}), the queries of Grafana, and
{"wrong": [sentences]}.
"""

import json
import os
import re
import sys
from pathlib import Path

import duckdb
import yaml

wrong = []


def expect(truth, sentence):
    if not truth:
        wrong.append(sentence)


def views(folder):
    connection = duckdb.connect()
    # As in a file of their own, twice: the script may be run again.
    script = (folder / "views.sql").read_text()
    connection.execute(script)
    connection.execute(script)
    seen = {}
    for name, comment in connection.execute("select view_name, comment from duckdb_views() where not internal").fetchall():
        expect(comment, f"view {name} has no comment")
        rows = connection.execute(f'select count(*) from "{name}"').fetchone()[0]
        columns = connection.execute("select column_name, comment from duckdb_columns() where table_name = ?", [name]).fetchall()
        seen[name] = [rows, [column for column, _ in columns], [comment for _, comment in columns]]
    return seen


def sources(folder, seen):
    source = yaml.safe_load((folder / "sources.yml").read_text())["sources"][0]
    tables = {table["name"]: table for table in source["tables"]}
    expect(set(tables) == set(seen), f"dbt has {sorted(tables)}")
    for name, table in tables.items():
        meta = table["config"]["meta"]
        expect(meta["formatter"] == "oldstyle", f"{name}: braces would be filled in")
        # This is what dbt-duckdb makes of `source('wayline', name)`.
        place = meta["external_location"] % table
        rows = duckdb.sql(f"select count(*) from {place}").fetchall()[0][0]
        expect(rows == seen[name][0], f"{name}: {rows} rows in dbt's source")
        expect([column["name"] for column in table["columns"]] == seen[name][1], f"{name}: other columns in dbt")
    expect(tables["journeys"]["columns"][0]["data_tests"] == ["unique"], "journey_id is tested")
    state = next(column for column in tables["journeys"]["columns"] if column["name"] == "state")
    values = state["data_tests"][1]["accepted_values"]["arguments"]["values"]
    expect(values == ["open", "converted", "expired"], f"values of state: {values}")
    expect(tables["runs"]["config"]["loaded_at_field"] == "completed_at", "runs tell freshness")


def pages(folder, seen):
    connection = duckdb.connect()
    connection.execute("create schema wayline")
    options = yaml.safe_load((folder / "sources/wayline/connection.yaml").read_text())
    expect(options["type"] == "duckdb", "the connection is of DuckDB")
    found = {path.stem: path.read_text() for path in (folder / "sources/wayline").glob("*.sql")}
    expect(set(found) == set(seen), f"Evidence has {sorted(found)}")
    for name, sql in found.items():
        connection.execute(f'create view wayline."{name}" as {sql}')
    page = (folder / "pages/index.md").read_text()
    queries = re.findall(r"```sql (\w+)\n(.*?)\n```", page, re.S)
    expect(len(queries) == 12, f"{len(queries)} queries on the page")
    for name, sql in queries:
        answer = connection.execute(sql)
        columns = [column[0] for column in answer.description]
        expect(answer.fetchall(), f"{name} finds nothing")
        chart = re.search(rf"<\w+ data={{{name}}}[^>]*>", page)
        expect(chart, f"{name} is not drawn")
        for axis in re.findall(r" (?:x|y|value)=(\w+)", chart[0]):
            expect(axis in columns, f"{name} has no column {axis}")


def dashboard(folder):
    data_source = yaml.safe_load((folder / "provisioning/datasources/wayline.yaml").read_text())["datasources"][0]
    yaml.safe_load((folder / "provisioning/dashboards/wayline.yaml").read_text())
    panels = json.loads((folder / "dashboards/wayline.json").read_text())["panels"]
    taken = set()
    for panel in panels:
        expect(panel["datasource"]["uid"] == data_source["uid"], f"{panel['title']}: another data source")
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        expect(max(x for x, _ in cells) < 24 and not cells & taken, f"{panel['title']} lies on another panel")
        taken |= cells
    return {panel["title"]: panel["targets"][0]["rawSql"] for panel in panels}


def balanced(text):
    """Whether brackets and quotes of M match; comments and texts aside."""
    code = re.sub(r"//[^\n]*", "", re.sub(r'"(?:[^"]|"")*"', "text", re.sub(r"^//[^\n]*", "", text, flags=re.M)))
    open_ones = []
    for c in code:
        if c in "([{":
            open_ones.append(c)
        elif c in ")]}" and (not open_ones or open_ones.pop() + c not in ("()", "[]", "{}")):
            return False
    return not open_ones and '"' not in code


def queries(folder, seen):
    found = {path.stem: path.read_text() for path in folder.glob("*.pq")}
    expect(set(found) == set(seen), f"Power BI has {sorted(found)}")
    for name, text in found.items():
        expect(balanced(text), f"{name}: brackets or quotes do not match")
        expect(text.startswith("// Power BI"), f"{name} does not say how to use it")
        for column, comment in zip(seen[name][1], seen[name][2]):
            expect(f"//   {column}: {comment}\n" in text, f"{name}.{column} is not described in Power BI")
        lake = re.search(r'Lake = "(.*)"', text)[1]
        path = re.search(r'Lake & "(/marts/[^"]+)"', text)[1]
        expect(Path(lake + path).exists(), f"{lake}{path} is not there")


def main():
    folder = Path(sys.argv[1])
    seen = views(folder / "duckdb")
    sources(folder / "dbt-sources", seen)
    pages(folder / "evidence", seen)
    queries(folder / "powerbi", seen)
    print(json.dumps({"views": seen, "queries": dashboard(folder / "grafana"), "wrong": wrong}), flush=True)


main()
# As in open_elsewhere.py.
os._exit(0)
