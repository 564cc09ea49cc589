"""Wayline as a peer of the bench: the native program `peer`, a child process.

The environment variable WAYLINE_BENCH_BIN names the program; `cargo bench --no-run --bench peer` builds it and prints its path.
"""
import json
import os
import resource
import subprocess

# The workloads of each layout; W1 and W11 read what the layout `parquet` reads.
LAYOUTS = {
    "parquet": ("W1", "W3", "W4", "W9", "W11"),
    "clustered": ("W3", "W4", "W9"),
    "sorted": ("W3", "W4", "W9"),
    "journeys": ("W2", "W3", "W4", "W5", "W6", "W7", "W8", "W10"),
    "w12": ("W12",),
}
# Those that are no queries over a layout.
STAGES = ("W1", "W11", "W12")


class Result(dict):
    """What the program says of itself, beside its own use of CPU and memory; as a path, what it wrote."""

    def __init__(self, path, **values):
        super().__init__(values)
        self.path = path

    def __fspath__(self):
        return self.path


def build(data, threads=2):
    """Makes our own layouts of a size, which takes its `clustered/`."""
    subprocess.run([os.environ["WAYLINE_BENCH_BIN"], "build", data, "-", str(threads)], check=True)


class Peer:
    name = "wayline"

    def __init__(self, data, layout, tmp, threads=2):
        self.data, self.layout, self.tmp, self.threads = data, layout, tmp, threads
        self.program = os.environ["WAYLINE_BENCH_BIN"]

    def __getattr__(self, workload):
        """Each workload of the layout is a method."""
        if workload not in LAYOUTS.get(self.layout, ()):
            raise AttributeError(f"no {workload} in layout {self.layout}")
        return lambda: self.run(workload)

    def run(self, workload):
        name = workload if workload in STAGES else f"{workload}/{self.layout}"
        path = os.path.join(self.tmp, f"{workload.lower()}_wayline" + ("" if workload in ("W1", "W12") else ".parquet"))
        command = [self.program, name, self.data, path, str(self.threads)]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        said = json.loads(done.stdout)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        batches = {}
        if workload == "W12":
            # As the peers tell it: seconds by batch.
            seconds = lambda kind: [took for phase, took in said["phases"].items() if phase.startswith(kind)]
            batches = {"setup_s": said["phases"]["history"], "small": seconds("small"), "big": seconds("big")}
        return Result(path, **batches, child_cpu=round(cpu, 4), child_rss_mb=round(after.ru_maxrss / 1024), child_wall=said["wall"],
                      child_rows=said["rows"], phases=said["phases"])
