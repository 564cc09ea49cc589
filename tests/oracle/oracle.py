#!/usr/bin/env python3
"""A naive reference for every table and mart: plain loops, one thread, the standard library.

    python3 tests/oracle/oracle.py sample-data/odd-cases --out sample-data/odd-cases/expected
    python3 tests/oracle/oracle.py sample-data/shop --out sample-data/shop/expected --only funnel_steps,drop_offs

Reads a project folder (wayline.toml and the files that it names) as one batch and writes one CSV per table: text, null
as nothing, decimals with four places, floats as their shortest exact form, rows sorted by the columns of their grain.
"""

import argparse
import csv
import sys
import tomllib
from pathlib import Path

from funnels import attempt_rows, attempts, drop_offs, funnel_steps
from identity import Identity, read_rulings
from journeys import Settings, build_journeys, customer_rows, session_rows, touchpoint_rows, walk, without_lists
from landing import data_quality, event_columns, land, newest_sane
from marts import channel_switches, path_edges, paths, stage_channels
from values import Time, as_text, parse_duration, parse_time

GRAIN = {
    "as_of": ["as_of"],
    "events": ["event_id"],
    "dead_letters": ["source", "origin"],
    "duplicates": ["source", "origin"],
    "identity_map": ["kind", "value"],
    "identity_links": ["from_kind", "from_value", "to_kind", "to_value"],
    "identity_refusals": ["from_kind", "from_value", "to_kind", "to_value"],
    "touchpoints": ["event_id"],
    "sessions": ["session_id"],
    "journeys": ["journey_id"],
    "customers": ["customer_id"],
    "funnel_attempts": ["funnel", "journey_id"],
    "funnel_steps": ["funnel", "entered_date", "entry_channel", "step"],
    "drop_offs": ["funnel", "step", "outcome", "next_touchpoint", "next_channel"],
    "paths": ["path", "started_date"],
    "path_edges": ["position", "from_touchpoint", "to_touchpoint"],
    "channel_switches": ["from_channel", "to_channel", "scope", "switched_date"],
    "stage_channels": ["stage", "channel", "occurred_date"],
    "data_quality": ["source", "batch"],
}


def compute(project, as_of=None, rulings=None):
    """Every table of the project by name, as lists of rows; as_of is the default one unless given.

    Rulings are verdicts by pair of identifiers, as `read_rulings` answers them."""
    config = tomllib.loads((project / "wayline.toml").read_text())
    settings = Settings(config, parse_duration)
    events, dead_letters, duplicates, counts = land(project, config)
    tolerance = parse_duration(config.get("landing", {}).get("future_tolerance", "24h"))
    as_of = newest_sane(events, tolerance) if as_of is None else as_of
    identity = Identity(events, config.get("identity", {}), rulings)
    touches = walk(events, identity, settings)
    journeys = build_journeys(touches, settings, as_of)
    found = attempts(journeys, settings.funnels, as_of)
    return {
        "as_of": [{"as_of": Time(as_of)}],
        "events": [event_columns(event) for event in events],
        "dead_letters": dead_letters,
        "duplicates": [{name: event[name] for name in ["source", "origin", "event_id"]} for event in duplicates],
        **identity.tables(),
        "touchpoints": touchpoint_rows(touches),
        "sessions": session_rows(touches),
        "journeys": without_lists(journeys),
        "customers": customer_rows(touches, journeys, identity, settings, as_of),
        "funnel_attempts": attempt_rows(found),
        "funnel_steps": funnel_steps(found, settings.funnels),
        "drop_offs": drop_offs(found),
        "paths": paths(journeys),
        "path_edges": path_edges(journeys),
        "channel_switches": channel_switches(journeys),
        "stage_channels": stage_channels(journeys),
        "data_quality": data_quality(events, counts, tolerance, as_of),
    }


def write(table, rows, folder):
    texts = [{name: as_text(value) for name, value in row.items()} for row in rows]
    texts.sort(key=lambda row: [row[name] for name in GRAIN[table]])
    with open(folder / f"{table}.csv", "w", newline="", encoding="utf-8") as file:
        if texts:
            writer = csv.DictWriter(file, list(texts[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(texts)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("project", type=Path, help="folder with wayline.toml")
    parser.add_argument("--out", type=Path, required=True, help="folder for the CSV files")
    parser.add_argument("--only", default=",".join(GRAIN), help="tables to write, joined with commas")
    parser.add_argument("--as-of", help="the logical time of the run (RFC 3339)")
    parser.add_argument("--rulings", type=Path, help="the journal of rulings: identity/rulings in the lake")
    arguments = parser.parse_args()
    chosen = arguments.only.split(",")
    if unknown := set(chosen) - set(GRAIN):
        sys.exit(f"no such table: {', '.join(sorted(unknown))}")
    as_of = parse_time(arguments.as_of) if arguments.as_of else None
    tables = compute(arguments.project, as_of, read_rulings(arguments.rulings) if arguments.rulings else None)
    arguments.out.mkdir(parents=True, exist_ok=True)
    for table in chosen:
        write(table, tables[table], arguments.out)
    print("\n".join(f"{table:>18} {len(rows):>7}" for table, rows in tables.items()))


if __name__ == "__main__":
    main()
