#!/usr/bin/env python3
"""Makes landing-zone/snowplow_*.jsonl.gz from the test data of two dbt packages by Snowplow.

    python3 prepare.py FOLDER

FOLDER holds snowplow_ecommerce/source/*.csv.gz and snowplow_mobile/source/*.csv.gz (README.md names the commits). One
JSON object per event, in file order, no event left out: the columns that the project maps, each event joined with its
context tables on root_id = event_id. Times get a `T` and, where they had no zone, a `Z`; empty fields become null; all
other values stay as they were.
"""

import csv
import gzip
import json
import sys
from pathlib import Path

csv.field_size_limit(10_000_000)


def rows(path):
    with gzip.open(path, "rt", newline="", encoding="utf-8") as file:
        return [{name: value or None for name, value in row.items()} for row in csv.DictReader(file)]


def context(folder, name):
    return {row["root_id"]: row for row in rows(folder / f"{name}.csv.gz")}


def pick(row, **names):
    return {name: (row or {}).get(column) for name, column in names.items()}


def rfc_3339(text):
    date, time = text[:10], text[11:].removesuffix("+00:00")
    return f"{date}T{time}Z"


def times(event):
    return {name: rfc_3339(event[name]) for name in ["derived_tstamp", "collector_tstamp"]}


def ecommerce(folder):
    prefix = "com_snowplowanalytics_snowplow"
    actions = context(folder, f"{prefix}_ecommerce_action_1")
    purchases = context(folder, f"{prefix}_ecommerce_transaction_1")
    pages = context(folder, f"{prefix}_ecommerce_page_1")
    steps = context(folder, f"{prefix}_ecommerce_checkout_step_1")
    devices = context(folder, f"{prefix}_client_session_1")
    for event in rows(folder / "snowplow_ecommerce_events.csv.gz"):
        key = event["event_id"]
        yield {
            **pick(event, event_id="event_id", app_id="app_id", platform="platform", event_name="event_name"),
            **times(event),
            **pick(event, domain_userid="domain_userid", network_userid="network_userid"),
            "device_userid": (devices.get(key) or {}).get("user_id"),
            "action": pick(actions.get(key), type="type", name="name"),
            "page_type": (pages.get(key) or {}).get("type"),
            "checkout_step": (steps.get(key) or {}).get("step"),
            "purchase": pick(purchases.get(key), id="transaction_id", revenue="revenue", currency="currency"),
        }


def mobile(folder):
    sessions = context(folder, "snowplow_mobile_client_session_context")
    screens = context(folder, "snowplow_mobile_screen_view_context")
    for event in rows(folder / "snowplow_mobile_events.csv.gz"):
        key = event["event_id"]
        yield {
            **pick(event, event_id="event_id", app_id="app_id", event_name="event_name"),
            **times(event),
            **pick(event, user_id="user_id", network_userid="network_userid"),
            "device_userid": (sessions.get(key) or {}).get("user_id"),
            "screen": pick(screens.get(key), id="id", name="name"),
        }


def write(path, records):
    text = "".join(json.dumps(record, ensure_ascii=False, separators=(",", ":")) + "\n" for record in records)
    path.write_bytes(gzip.compress(text.encode(), mtime=0))


def main():
    upstream = Path(sys.argv[1])
    landing_zone = Path(__file__).parent / "landing-zone"
    write(landing_zone / "snowplow_ecommerce.jsonl.gz", ecommerce(upstream / "snowplow_ecommerce" / "source"))
    write(landing_zone / "snowplow_mobile.jsonl.gz", mobile(upstream / "snowplow_mobile" / "source"))


if __name__ == "__main__":
    main()
