#!/usr/bin/env python3
"""A day of small batches: does what a lake keeps stay bounded, and does it end where one run would?

    cargo build --release
    python benches/day_of_batches.py [--batches 8640] [--events 10] [--days 1] [--shuffle SEED] [--hour 360] [--retain TIME] [--binary target/release/wayline] [--keep DIR]

Generates events and lets `wayline watch` land, build and publish them, a batch in each of its cycles, as every ten seconds of a day. The
files of an hour are there when it begins, so that no cycle waits for the clock; then that watch ends, and a job of `wayline maintain`
stands for what a watch of real hours does by itself, keeping what was replaced for as long as an hour of these batches takes, or as told.
Prints a row per hour: milliseconds of its cycles, the MiB held at most, then what the lake has before maintenance and after. A day that
was stopped goes on where `--keep` left it. In the end nothing may be damaged, every event that was landed is there once, and each
published file is the one that a lake has which was given all events at once.

`--batches 500 --events 2000 --days 30 --shuffle 1` asks the last of a million events that come in any order, whatever their days.
"""
import argparse
import collections
import json
import math
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
# What tells of runs and of the times of batches.
OF_RUNS = {"runs", "data_quality"}
KINDS = ["data", "logs", "changes", "books", "reports", "marts"]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batches", type=int, default=8640)
    parser.add_argument("--events", type=int, default=10, help="events of a batch")
    parser.add_argument("--days", type=int, default=1, help="days over which the events are spread")
    parser.add_argument("--shuffle", type=int, metavar="SEED", help="let the events come in an order that this number makes")
    parser.add_argument("--hour", type=int, default=360, help="batches from one maintenance to the next")
    parser.add_argument("--retain", help="how long maintenance keeps what was replaced; by default as long as the hour took")
    parser.add_argument("--binary", default=HERE.parent / "target/release/wayline")
    parser.add_argument("--keep", type=Path, help="folder for the projects, which are left there; a day that it holds goes on")
    return parser.parse_args()


def kind(path):
    """What a file of a lake is, by its path there."""
    folder = path.parts[0]
    if "_delta_log" in path.parts:
        return "logs"
    if path.parts[:2] == ("landing", "batches"):
        return "books"
    return {"changes": "changes", "runs": "reports", "marts": "marts"}.get(folder, "data")


def kept(lake):
    """Files of a lake by kind, and bytes in all."""
    counts, size = collections.Counter(), 0
    for path in lake.rglob("*"):
        if path.is_file():
            counts[kind(path.relative_to(lake))] += 1
            size += path.stat().st_size
    return [*(counts[name] for name in KINDS), f"{size / 1e6:.1f}"]


def marts(lake):
    files = (path.relative_to(lake / "marts") for path in (lake / "marts").rglob("*.parquet"))
    return {path: (lake / "marts" / path).read_bytes() for path in files if path.parts[0].removesuffix(".parquet") not in OF_RUNS}


class Project:
    def __init__(self, binary, folder):
        self.binary, self.folder, self.lake = binary, folder, folder / "lake"

    def wayline(self, command, *flags):
        done = subprocess.run([self.binary, command, *flags, "--project", self.folder], capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"{command} ended with {done.returncode}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
        return done.stdout

    def arrive(self, name, lines):
        (self.folder / name).write_bytes(b"".join(lines))
        os.rename(self.folder / name, self.folder / "landing-zone" / name)

    def batches(self):
        """Those that are landed."""
        if not self.lake.exists():
            return 0
        return int(self.wayline("sql", "--format", "csv", "-c", "select count(*) from batches").split()[-1])

    def run(self):
        begun = time.monotonic()
        report = json.loads(self.wayline("run", "--json").splitlines()[-1])
        if report["status"] != "success":
            sys.exit(f"a run came to {report['status']}")
        return time.monotonic() - begun

    def watch(self, cycles):
        """Seconds of each of so many cycles, each with a batch, and the MiB held at most."""
        command = [self.binary, "watch", "--every", "1s", "--max-batches", str(cycles), "--json", "--project", self.folder]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        seconds, begun, held = [], time.monotonic(), 0.0
        for line in child.stdout:
            report, now = json.loads(line), time.monotonic()
            if report["status"] == "done":
                break
            if report["status"] != "success" or len(report["landed"]["batches"]) != 1:
                child.kill()
                sys.exit(f"a cycle came to {report['status']}: {line[-2000:]}")
            seconds.append(now - begun)
            begun, held = now, report["peak_memory_bytes"] / 2**20
        if child.wait() != 0 or len(seconds) != cycles:
            sys.exit(f"the watch ended with {child.returncode} after {len(seconds)} of {cycles} cycles")
        return seconds, held


def day(folder, project, at_once, count, days, seed):
    """The events in the order in which they come, a line each. Both projects are made, unless a day is there already."""
    kept = folder / "events.jsonl"
    if not kept.exists():
        made = [project.binary, "generate", "--events", str(count), "--days", str(days), "--files", "1", project.folder]
        subprocess.run(made, check=True, capture_output=True)
        [generated] = (project.folder / "landing-zone").iterdir()
        shutil.copytree(project.folder, at_once.folder, ignore=shutil.ignore_patterns(generated.name))
        with open(project.folder / "wayline.toml", "a") as configuration:
            # A file is a batch.
            configuration.write("\n[landing]\nmax_batch_bytes = 1\n")
        generated.rename(kept)
    lines = kept.read_bytes().splitlines(keepends=True)
    if seed is not None:
        random.Random(seed).shuffle(lines)
    return lines


def main():
    options = arguments()
    folder = options.keep or Path(tempfile.mkdtemp(prefix="wayline-day-"))
    project, at_once = Project(options.binary, folder / "batches"), Project(options.binary, folder / "at-once")
    lines = day(folder, project, at_once, options.batches * options.events, options.days, options.shuffle)
    arrived = len(list((project.folder / "landing-zone").iterdir()))

    heads = ["hour", "p50 ms", "p95 ms", "max ms", "MiB", *KINDS, "MB", *(f"{name} after" for name in KINDS), "MB after", "maintained in s"]
    print("| " + " | ".join(heads) + " |\n|" + " ---: |" * len(heads), flush=True)
    # Of an hour that was stopped, files may have arrived or not, and batches be landed or not.
    for begin in range(project.batches() // options.hour * options.hour, options.batches, options.hour):
        end = min(begin + options.hour, options.batches)
        for number in range(max(arrived, begin), end):
            project.arrive(f"events-{number:06}.jsonl", lines[number * options.events : (number + 1) * options.events])
        seconds, held = project.watch(end - project.batches())
        seconds.sort()
        row = [begin // options.hour + 1]
        row += [f"{seconds[min(len(seconds) - 1, int(len(seconds) * share))] * 1000:.0f}" for share in (0.5, 0.95, 1)]
        row += [f"{held:.0f}", *kept(project.lake)]
        begun = time.monotonic()
        project.wayline("maintain", "--retain", options.retain or f"{math.ceil(sum(seconds))}s")
        maintained = time.monotonic() - begun
        row += [*kept(project.lake), f"{maintained:.1f}"]
        print("| " + " | ".join(map(str, row)) + " |", flush=True)

    project.wayline("fsck")
    at_once.arrive("events-all.jsonl", lines)
    print(f"\nall at once in {at_once.run():.1f} s")
    events = "select count(*), count(distinct event_id), (select sum(landed) from batches) from events"
    there, all_events = (one.wayline("sql", "--format", "csv", "-c", events).split()[-1] for one in (project, at_once))
    is_once = len(set(there.split(","))) == 1
    found, expected = marts(project.lake), marts(at_once.lake)
    differ = sorted(str(path) for path in found.keys() | expected.keys() if found.get(path) != expected.get(path))
    print(f"events, distinct ids, landed by the ledger: {there}, at once {all_events}; {len(expected)} published files, others than these: {differ or 'none'}")
    if differ or not expected or not is_once or there != all_events:
        sys.exit(f"left in {folder}")
    if not options.keep:
        shutil.rmtree(folder)


main()
