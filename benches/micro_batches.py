"""Micro-batches on a history: what a batch of 10,000 and of 100,000 events costs, stage by stage.

Usage: micro_batches.py [--history 4800000] [--small 5] [--large 2] [--binary target/release/wayline] [--keep FOLDER]

Generates events, runs the main job on the history, then once per batch, each a process of its own with `--check-touched`, and prints
a row per batch: seconds of the process and by stage, customers touched, bytes written for tables and for marts, and both as
multiples of the bytes that the batch has as Parquet in `landing/events`.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

SMALL, LARGE = 10_000, 100_000
STAGES = ["land", "resolve", "build", "check", "publish", "fold"]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--history", type=int, default=4_800_000)
    parser.add_argument("--small", type=int, default=5, help="batches of 10,000 events")
    parser.add_argument("--large", type=int, default=2, help="batches of 100,000 events")
    parser.add_argument("--binary", default="target/release/wayline")
    parser.add_argument("--keep", type=Path, help="folder for the project, which is left there")
    return parser.parse_args()


def run(binary, project, *flags):
    begun = time.monotonic()
    command = [binary, "run", "--json", "--project", str(project), *flags]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return time.monotonic() - begun, json.loads(done.stdout.splitlines()[-1])


def files(lake):
    """Sizes of all files of a lake by path and time of writing."""
    found = (path for path in lake.rglob("*") if path.is_file())
    return {(str(path.relative_to(lake)), path.stat().st_mtime_ns): path.stat().st_size for path in found}


def batches(project, history, sizes):
    """Takes what is beyond the history out of the landing zone; yields the lines of each batch."""
    zone = project / "landing-zone"
    kept, rest = 0, []
    for path in sorted(zone.iterdir()):
        lines = path.read_bytes().splitlines(keepends=True)
        if kept + len(lines) <= history:
            kept += len(lines)
        else:
            rest += lines
            path.unlink()
    position = 0
    for size in sizes:
        yield rest[position : position + size]
        position += size


def main():
    options = arguments()
    sizes = [SMALL] * options.small + [LARGE] * options.large
    folder = options.keep or Path(tempfile.mkdtemp(prefix="wayline-micro-batches-"))
    project = folder / "project"
    per_file = 200_000
    count = -(-(options.history + sum(sizes)) // per_file)
    made = [options.binary, "generate", "--events", str(count * per_file), "--files", str(count), str(project)]
    subprocess.run(made, check=True, capture_output=True)
    waiting = list(batches(project, options.history, sizes))
    seconds, report = run(options.binary, project)
    landed = sum(source["landed"] for source in report["landed"]["sources"].values())
    print(f"history: {landed} events landed and built in {seconds:.1f} s\n")
    heads = ["events", "s", *STAGES, "touched", "MB tables", "MB marts", "x tables", "x marts"]
    print("| " + " | ".join(heads) + " |\n|" + " ---: |" * len(heads))
    taken = {SMALL: [], LARGE: []}
    for number, lines in enumerate(waiting):
        before = files(project / "lake")
        (project / "landing-zone" / f"events-9{number:04}.jsonl").write_bytes(b"".join(lines))
        seconds, report = run(options.binary, project, "--check-touched")
        new = {path: size for (path, at), size in files(project / "lake").items() if (path, at) not in before}
        landed = sum(size for path, size in new.items() if path.startswith("landing/events/"))
        marts = sum(size for path, size in new.items() if path.startswith("marts/"))
        tables = sum(new.values()) - marts
        taken[len(lines)].append(seconds)
        row = [len(lines), f"{seconds:.2f}", *(f"{report['stages'].get(stage, 0):.2f}" for stage in STAGES)]
        row += [report["touched_customers"], f"{tables / 1e6:.1f}", f"{marts / 1e6:.1f}"]
        row += [f"{tables / landed:.1f}", f"{marts / landed:.1f}"]
        print("| " + " | ".join(map(str, row)) + " |", flush=True)
    for size, seconds in taken.items():
        if seconds:
            print(f"\n{size} events: median {statistics.median(seconds):.2f} s")
    if not options.keep:
        shutil.rmtree(folder)


main()
