#!/usr/bin/env python3
"""A watch under a steady stream: how long events wait from their arrival until all marts are published, and what memory it takes.

    cargo build --release
    python benches/watch.py [--rate 10000] [--seconds 600] [--history 0] [--every 5s] [--binary target/release/wayline] [--keep DIR]

Generates events, builds the history, starts `wayline watch`, and each second moves a file of so many events into the landing zone. An
event has arrived when its file has; it is published when the watch has published the cycle that landed it, which reports that once it has
folded tables, too: the time of that is taken off. Prints a row per minute of
arrivals: cycles that ended in it, percentiles of the time from arrival to publication, and memory at its end.
"""
import argparse
import itertools
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
PER_FILE = 200_000
# Seconds after the last event in which all must be published.
PATIENCE = 120


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rate", type=int, default=10_000, help="events per second")
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--history", type=int, default=0, help="events that are built before")
    parser.add_argument("--every", default="5s")
    parser.add_argument("--binary", default=os.path.join(HERE, "..", "target", "release", "wayline"))
    parser.add_argument("--keep", help="folder for the project, which is left there")
    return parser.parse_args()


def lines_of(paths):
    for path in paths:
        with open(path, "rb") as file:
            yield from file
        os.remove(path)


def place(project, waiting, count, name):
    """Moves the next events into the landing zone, all at once."""
    staged = os.path.join(project, name)
    with open(staged, "wb") as file:
        file.writelines(itertools.islice(waiting, count))
    os.rename(staged, os.path.join(project, "landing-zone", name))


class Watch:
    """The running program, and when it reported how many records it had taken in all."""

    def __init__(self, binary, project, every, log):
        command = [binary, "watch", "--every", every, "--json", "--project", project]
        self.log = log
        with open(log, "wb") as stderr:
            self.child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True)
        self.published = []
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        taken = 0
        for line in self.child.stdout:
            report = json.loads(line)
            if report["status"] != "success":
                print(f"told by the watch: {report['status']}", file=sys.stderr)
                continue
            taken += sum(source["rows_in"] for source in report["landed"]["sources"].values())
            self.published.append((time.monotonic() - report["stages"].get("fold", 0), taken))

    def taken(self):
        return self.published[-1][1] if self.published else 0

    def expect_alive(self):
        if self.child.poll() is not None:
            with open(self.log, errors="replace") as log:
                sys.exit(f"the watch ended with {self.child.returncode}: {log.read()[-2000:]}")

    def memory(self):
        """MiB that it holds now."""
        self.expect_alive()
        with open(f"/proc/{self.child.pid}/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) / 1024

    def stop(self):
        self.child.send_signal(signal.SIGTERM)
        self.child.wait()
        self.reader.join()


def percentile(values, share):
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def main():
    options = arguments()
    folder = options.keep or tempfile.mkdtemp(prefix="wayline-watch-")
    project = os.path.join(folder, "project")
    files = -(-(options.history + options.rate * options.seconds) // PER_FILE)
    made = [options.binary, "generate", "--events", str(files * PER_FILE), "--files", str(files), project]
    subprocess.run(made, check=True, capture_output=True)
    zone, pool = os.path.join(project, "landing-zone"), os.path.join(folder, "pool")
    os.rename(zone, pool)
    os.makedirs(zone)
    waiting = lines_of([os.path.join(pool, name) for name in sorted(os.listdir(pool))])
    if options.history:
        place(project, waiting, options.history, "events-history.jsonl")
        subprocess.run([options.binary, "run", "--project", project], check=True, capture_output=True)

    watch = Watch(options.binary, project, options.every, os.path.join(folder, "watch.log"))
    arrived, memory = [], []
    begun = time.monotonic()
    try:
        for second in range(options.seconds):
            place(project, waiting, options.rate, f"events-{second:06}.jsonl")
            arrived.append(time.monotonic())
            memory.append(watch.memory())
            time.sleep(max(0.0, begun + second + 1 - time.monotonic()))
        until = time.monotonic() + PATIENCE
        while watch.taken() < options.rate * options.seconds:
            watch.expect_alive()
            if time.monotonic() > until:
                sys.exit(f"{watch.taken()} records were published {PATIENCE} s after the last of them had arrived")
            time.sleep(0.1)
    finally:
        watch.stop()

    cycles = iter(watch.published)
    at, taken = next(cycles)
    waited = []
    for second, time_of_arrival in enumerate(arrived):
        while taken < options.rate * (second + 1):
            at, taken = next(cycles)
        waited.append(at - time_of_arrival)
    print(f"{options.rate} events per second for {options.seconds} s, --every {options.every}, history {options.history}\n")
    heads = ["minute", "cycles", "wait p50 s", "p95 s", "max s", "MiB"]
    print("| " + " | ".join(heads) + " |\n|" + " ---: |" * len(heads))
    for minute in range(-(-options.seconds // 60)):
        part = waited[60 * minute : 60 * minute + 60]
        ended = sum(60 * minute <= at - begun < 60 * minute + 60 for at, _ in watch.published)
        figures = [statistics.median(part), percentile(part, 0.95), max(part)]
        row = [minute + 1, ended, *(f"{figure:.1f}" for figure in figures), f"{memory[60 * minute : 60 * minute + 60][-1]:.0f}"]
        print("| " + " | ".join(map(str, row)) + " |")
    print(f"\nall: p50 {statistics.median(waited):.1f} s, p95 {percentile(waited, 0.95):.1f} s, max {max(waited):.1f} s, memory at most {max(memory):.0f} MiB")
    if not options.keep:
        shutil.rmtree(folder)


main()
