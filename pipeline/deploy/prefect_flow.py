"""Prefect: the main job every quarter of an hour. python prefect_flow.py serves it."""

import json
import subprocess

from prefect import flow, task

PROJECT = "/srv/wayline/shop"


class Temporary(Exception):
    """The lock is held or a store is out of reach: to be tried again."""


@task(retries=3, retry_delay_seconds=120, retry_condition_fn=lambda task, run, state: is_temporary(state))
def run_wayline(project: str) -> str:
    command = ["wayline", "run", "--project", project, "--log-format", "json", "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    report = json.loads((done.stdout.splitlines() or ["{}"])[-1])  # what is killed at once reports nothing
    if done.returncode in (1, 2):
        failed = [line["unique_id"] for line in report.get("results", []) if line["status"] not in ("success", "pass")]
        raise RuntimeError(report.get("error") or f"failed: {failed}")
    if done.returncode != 0:
        raise Temporary(f"exit code {done.returncode}")
    return report["metadata"]["invocation_id"]


def is_temporary(state) -> bool:
    return isinstance(state.result(raise_on_failure=False), Temporary)


@flow(name="wayline")
def wayline(project: str = PROJECT) -> str:
    return run_wayline(project)


if __name__ == "__main__":
    wayline.serve(name="every-quarter-hour", cron="*/15 * * * *", limit=1)
