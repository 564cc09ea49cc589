#!/usr/bin/env python3
"""Measures the main job: generates events, runs it, runs it again with nothing new; prints Markdown tables.

    cargo build --release
    python benches/main_job.py [--events 1000000,10000000] [--files 8] [--binary target/release/wayline] [--keep DIR]
"""
import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))


def timed(command):
    """Runs a command; returns wall seconds, CPU seconds, its own peak memory in MB, and what it printed."""
    started = time.perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    printed = child.stdout.read()
    # Not RUSAGE_CHILDREN: its peak is that of all children so far.
    _, status, usage = os.wait4(child.pid, 0)
    wall = time.perf_counter() - started
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        sys.exit(f"{' '.join(command)}: exit code {child.returncode}")
    return wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, printed


def megabytes(folder):
    paths = (os.path.join(parent, name) for parent, _, names in os.walk(folder) for name in names)
    return sum(os.path.getsize(path) for path in paths) / 1e6


def measure(binary, events, files, folder):
    """Rows of the table: what was run, wall, CPU, memory, stages."""
    wall, cpu, memory, _ = timed([binary, "generate", "--events", str(events), "--files", str(files), folder])
    landed = megabytes(os.path.join(folder, "landing-zone"))
    rows = [(f"generate ({landed:.0f} MB of JSON lines)", wall, cpu, memory, {})]
    for what in ("run", "run, nothing new"):
        wall, cpu, memory, printed = timed([binary, "run", "--json", "--project", folder])
        report = json.loads(printed.splitlines()[-1])
        rows.append((f"{what}: {report['status']}", wall, cpu, memory, report["stages"]))
    return rows, megabytes(os.path.join(folder, "lake"))


def print_table(events, rows, lake):
    stages = list(dict.fromkeys(stage for *_, seconds in rows for stage in seconds))
    print(f"\n{events:,} events, {lake:.0f} MB in the lake\n")
    print(f"| what | wall s | CPU s | peak RSS MB | events/s | {' | '.join(f'{stage} s' for stage in stages)} |")
    print(f"| --- |{' ---: |' * (4 + len(stages))}")
    for what, wall, cpu, memory, seconds in rows:
        cells = " | ".join(f"{seconds[stage]:.2f}" if stage in seconds else "" for stage in stages)
        print(f"| {what} | {wall:.2f} | {cpu:.2f} | {memory:.0f} | {events / wall:,.0f} | {cells} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", default="1000000", help="sizes, separated by commas")
    parser.add_argument("--files", type=int, default=8)
    parser.add_argument("--binary", default=os.path.join(os.path.dirname(HERE), "target", "release", "wayline"))
    parser.add_argument("--keep", help="keep the projects in this folder")
    arguments = parser.parse_args()
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=HERE, capture_output=True, text=True).stdout.strip()
    print(f"commit {commit}, {time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores {platform.machine()}, load {os.getloadavg()[0]:.1f}")
    for events in map(int, arguments.events.split(",")):
        parent = arguments.keep or tempfile.mkdtemp(prefix="wayline-main-job-")
        try:
            print_table(events, *measure(os.path.abspath(arguments.binary), events, arguments.files, os.path.join(parent, str(events))))
        finally:
            if not arguments.keep:
                shutil.rmtree(parent)


if __name__ == "__main__":
    main()
