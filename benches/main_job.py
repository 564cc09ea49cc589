#!/usr/bin/env python3
"""Measures the main job and prints a Markdown table: files to published marts, and again with nothing new.

    cargo build --release
    python benches/main_job.py [--events 1000000,10000000] [--files 1,20] [--runs 3] [--binary target/release/wayline] [--keep DIR]

Events are generated once per size; each run starts with an empty lake. `--files` names the number of files of each size.
"""
import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
STAGES = ("land", "resolve", "build", "check", "publish")


def timed(command):
    """Runs a command; returns wall seconds, CPU seconds, its own peak memory in MiB, and what it printed."""
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


def run(binary, folder):
    """One run of the main job; returns what it cost and the seconds of its stages."""
    wall, cpu, memory, printed = timed([binary, "run", "--json", "--project", folder])
    report = json.loads(printed.splitlines()[-1])
    return {"wall": wall, "cpu": cpu, "memory": memory, "status": report["status"], **report["stages"]}


def row(what, which, measured):
    seconds = [f"{measured[stage]:.2f}" if stage in measured else "" for stage in STAGES]
    cells = [what, which, f"{measured['wall']:.2f}", f"{measured['cpu']:.2f}", *seconds, f"{measured['memory']:,.0f}"]
    print(f"| {' | '.join(cells)} |", flush=True)


def measure(binary, events, files, runs, folder):
    wall, *_ = timed([binary, "generate", "--events", str(events), "--files", str(files), folder])
    what = f"{events:,} ({megabytes(os.path.join(folder, 'landing-zone')):,.0f} MB), {files} files"
    lake = os.path.join(folder, "lake")
    measured = []
    for number in range(1, runs + 1):
        shutil.rmtree(lake, ignore_errors=True)
        measured.append(run(binary, folder))
        row(what, str(number), measured[-1])
    if runs > 1:
        row(what, "median", {key: statistics.median(m[key] for m in measured) for key in measured[0] if key != "status"})
    again = run(binary, folder)
    row(what, f"then again: {again['status']}", again)
    return wall, megabytes(lake)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", default="1000000", help="sizes, separated by commas")
    parser.add_argument("--files", default="1", help="files of each size, separated by commas")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--binary", default=os.path.join(os.path.dirname(HERE), "target", "release", "wayline"))
    parser.add_argument("--keep", help="keep the projects in this folder")
    arguments = parser.parse_args()
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=HERE, capture_output=True, text=True).stdout.strip()
    print(f"commit {commit}, {time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores {platform.machine()}, load {os.getloadavg()[0]:.1f}\n")
    print(f"| events | run | wall s | CPU s | {' | '.join(f'{stage} s' for stage in STAGES)} | peak RSS MiB |")
    print(f"| --- | --- |{' ---: |' * (len(STAGES) + 3)}")
    sizes, files = arguments.events.split(","), arguments.files.split(",")
    notes = []
    for events, count in zip(map(int, sizes), files + files[-1:] * len(sizes)):
        parent = arguments.keep or tempfile.mkdtemp(prefix="wayline-main-job-")
        try:
            folder = os.path.join(parent, str(events))
            wall, lake = measure(os.path.abspath(arguments.binary), events, count, arguments.runs, folder)
            notes.append(f"{events:,} events: generated in {wall:.1f} s; the lake has {lake:,.0f} MB.")
        finally:
            if not arguments.keep:
                shutil.rmtree(parent)
    print("\n" + "\n".join(notes))


if __name__ == "__main__":
    main()
