"""Wayline as a peer of the bench: W1 and W11 by the native program `peer`, a child process.

The environment variable WAYLINE_BENCH_BIN names the program; `cargo bench --no-run --bench peer` builds it and prints its path.
"""
import json
import os
import resource
import subprocess


class Result(dict):
    """What the program says of itself, beside its own use of CPU and memory; as a path, what it wrote."""

    def __init__(self, path, **values):
        super().__init__(values)
        self.path = path

    def __fspath__(self):
        return self.path


class Peer:
    name = "wayline"

    def __init__(self, data, layout, tmp, threads=2):
        if layout != "parquet":
            raise ValueError(f"no layout {layout}, expected parquet")
        self.data, self.tmp, self.threads = data, tmp, threads
        self.program = os.environ["WAYLINE_BENCH_BIN"]

    def run(self, workload, out):
        path = os.path.join(self.tmp, out)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run([self.program, workload, self.data, path, str(self.threads)], stdout=subprocess.PIPE, text=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        said = json.loads(done.stdout)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return Result(path, child_cpu=round(cpu, 4), child_rss_mb=round(after.ru_maxrss / 1024), child_wall=said["wall"],
                      child_rows=said["rows"], phases=said["phases"])

    def W1(self):
        return self.run("W1", "w1_wayline")

    def W11(self):
        return self.run("W11", "w11_wayline.parquet")
