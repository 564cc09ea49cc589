#!/usr/bin/env python3
"""Measures Wayline beside the peers of the shared bench, interleaved, and prints a Markdown table.

    python benches/run_peers.py SHARED --data DIR --sizes 1m,10m --rounds 3

SHARED is the folder of the shared bench scripts (run.py, one.py, spec.py, peers/, golden/); nothing is written there. DIR
holds a folder per size, made by gen.py and, for the layouts of the peers, build.py; our own layout is made there when it is
missing. Run it with the Python that has the peers' packages. Sizes that have golden answers
are checked first, and a wrong answer ends the run. What run.py understands besides (--patience, --tries, --only, --skip,
--timeout) is handed on to it.
"""
import argparse
import collections
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
WORKLOADS = ("W1", "W2", "W3", "W4", "W5", "W6", "W7", "W8", "W9", "W10", "W11", "W12")


def program():
    """The native program: as the environment says, else as cargo builds it."""
    named = os.environ.get("WAYLINE_BENCH_BIN")
    if named:
        return os.path.abspath(named)
    build = ["cargo", "bench", "--no-run", "--bench", "peer", "--message-format", "json"]
    built = subprocess.run(build, cwd=os.path.dirname(HERE), stdout=subprocess.PIPE, text=True, check=True)
    artifacts = [json.loads(line) for line in built.stdout.splitlines() if line.startswith("{")]
    return next(made["executable"] for made in artifacts if made.get("target", {}).get("name") == "peer" and made.get("executable"))


def assemble(shared, folder):
    """Copies the shared scripts and puts our peer among theirs."""
    os.makedirs(os.path.join(folder, "peers"))
    for sub in (".", "peers"):
        for name in os.listdir(os.path.join(shared, sub)):
            if name.endswith(".py"):
                shutil.copyfile(os.path.join(shared, sub, name), os.path.join(folder, sub, name))
    shutil.copy(os.path.join(HERE, "wayline_peer.py"), os.path.join(folder, "peers"))
    sys.path[:0] = [folder, os.path.join(folder, "peers")]


def check(data, golden, workloads, folder):
    """Compares our answers with the golden ones."""
    import pyarrow.csv
    import pyarrow.parquet as pq
    import spec
    from wayline_peer import LAYOUTS, Peer

    with open(os.path.join(golden, "digests.json")) as file:
        expected = json.load(file)
    for layout, known in LAYOUTS.items():
        for workload in (workload for workload in workloads if workload in known):
            with tempfile.TemporaryDirectory() as tmp:
                out = os.fspath(getattr(Peer(data, layout, tmp), workload)())
                if workload == "W1":
                    checked = subprocess.run([sys.executable, f"{folder}/w1_check.py", data, out], capture_output=True, text=True)
                    if checked.returncode:
                        sys.exit(f"{data} W1: {checked.stdout}{checked.stderr}")
                    found = checked.stdout.split("rows, ")[1].split()[0][:16]
                    difference = differs(found, expected["W1"]["sha256_first16"])
                elif workload == "W12":
                    digests = {part: (spec.digest(part, pq.read_table(f"{out}/{part}.parquet")), golden_part["sha256"])
                               for part, golden_part in expected["W12"].items()}
                    wrong = (differs(*pair) and f"{part}: {differs(*pair)}" for part, pair in digests.items())
                    difference = next(filter(None, wrong), None)
                elif workload in expected:
                    difference = differs(spec.digest(workload, pq.read_table(out)), expected[workload]["sha256"])
                else:
                    answer = pyarrow.csv.read_csv(os.path.join(golden, f"{workload}.csv"))
                    difference = spec.compare(workload, answer, pq.read_table(out))
            if difference:
                sys.exit(f"{data} {workload} {layout}: {difference}")
            print(f"{data} {workload} {layout}: as the golden answer", flush=True)


def differs(found, expected):
    return None if found == expected else f"digest {found}, expected {expected}"


def by_batch_size(results):
    """W12 as two workloads, W12 small and W12 big, whose time is the median of their batches; the rest as it is."""
    for line in results:
        if line["base"] != "W12" or "error" in line:
            yield line
            continue
        for kind in ("small", "big"):
            seconds = statistics.median(line[kind])
            yield {**line, "base": f"W12 {kind}", "wall": seconds, "child_wall": seconds}


def table(results):
    """Medians by workload and size, the fastest first."""
    runs = collections.defaultdict(list)
    for line in by_batch_size(results):
        runs[line["base"], line["data"], line["peer"], line["layout"], line["workload"]].append(line)
    rows = []
    for key, lines in runs.items():
        measured = [line for line in lines if "error" not in line]
        if not measured:
            rows.append((*key, None, None, None, None))
            continue
        median = lambda value: statistics.median(value(line) for line in measured)
        # The time of the call: of ours, what the program says, since the peers start no process in it.
        rows.append((*key, median(lambda line: line.get("child_wall", line["wall"])),
                     median(lambda line: line.get("child_cpu", line["cpu"])),
                     max(line.get("child_rss_mb", line["rss_mb"]) for line in measured),
                     max(line["other_cpu"] for line in measured)))
    print("| workload | size | peer | layout | method | wall s | CPU s | peak RSS MB | CPU of others | times the best peer in this layout | in any |")
    print("| --- | --- | --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    number = lambda workload: (int(workload.split()[0][1:]), workload)
    for row in sorted(rows, key=lambda row: (int(row[1][:-1]), number(row[0]), row[5] is None, row[5] or 0)):
        workload, size, peer, layout, method, wall, cpu, rss, others = row
        if wall is None:
            print(f"| {workload} | {size} | {peer} | {layout} | {method} | failed | | | | | |")
            continue
        peers = [other for other in rows if other[:2] == row[:2] and other[2] != "wayline" and other[5] is not None]
        ratio = lambda walls: f"{wall / min(walls):.2f}" if walls else ""
        same, any_layout = ratio([other[5] for other in peers if other[3] == layout]), ratio([other[5] for other in peers])
        print(f"| {workload} | {size} | {peer} | {layout} | {method} | {wall:.3f} | {cpu:.2f} | {rss} | {others:.2f} | {same} | {any_layout} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shared")
    parser.add_argument("--data", required=True)
    parser.add_argument("--sizes", default="1m")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workloads", default=",".join(WORKLOADS))
    parser.add_argument("--out", help="keep the single measurements here, as JSON lines")
    arguments, rest = parser.parse_known_args()
    os.environ["WAYLINE_BENCH_BIN"] = program()
    # Copies of scripts are no place for byte code.
    sys.dont_write_bytecode = True
    workloads = arguments.workloads.split(",")
    with tempfile.TemporaryDirectory(prefix="wayline-bench-") as tmp:
        folder = os.path.join(tmp, "bench")
        os.makedirs(folder)
        assemble(arguments.shared, folder)
        import run
        import wayline_peer

        for layout, known in wayline_peer.LAYOUTS.items():
            for workload in known:
                run.PLAN[workload].append(("wayline", layout, workload))
        for size in arguments.sizes.split(","):
            layouts = [os.path.join(arguments.data, size, layout) for layout in ("wayline_journeys", "wayline_sorted")]
            if not all(map(os.path.isdir, layouts)):
                wayline_peer.build(os.path.join(arguments.data, size))
            golden = os.path.join(arguments.shared, "golden", size)
            if os.path.isdir(golden):
                check(os.path.join(arguments.data, size), golden, workloads, folder)
        out = os.path.abspath(arguments.out) if arguments.out else os.path.join(tmp, "results.jsonl")
        sys.argv = ["run.py", "--data", arguments.data, "--sizes", arguments.sizes, "--rounds", str(arguments.rounds),
                    "--workloads", arguments.workloads, "--out", out, *rest]
        run.main()
        with open(out) as file:
            table([json.loads(line) for line in file])


if __name__ == "__main__":
    main()
