"""Airflow: the main job every quarter of an hour. Put this file into the folder of DAGs."""

import json
import subprocess
from datetime import datetime, timedelta

from airflow.sdk import dag, task
from airflow.sdk.exceptions import AirflowException, AirflowFailException

PROJECT = "/srv/wayline/shop"


# OPENLINEAGE_PARENT_ID makes this task the parent of what the run tells of its lineage, where the provider is installed.
@task(retries=3, retry_delay=timedelta(minutes=2))
def run_wayline(project: str = PROJECT) -> dict:
    command = ["wayline", "run", "--project", project, "--log-format", "json", "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    report = json.loads((done.stdout.splitlines() or ["{}"])[-1])  # what is killed at once reports nothing
    if done.returncode in (1, 2):
        # A step or check failed, or the configuration is wrong: trying again mends nothing.
        raise AirflowFailException(report.get("error") or f"failed: {failed(report)}")
    if done.returncode != 0:
        raise AirflowException(f"exit code {done.returncode}, to be tried again")
    return {"run_id": report["metadata"]["invocation_id"], "status": report["status"]}


def failed(report: dict) -> list[str]:
    return [line["unique_id"] for line in report.get("results", []) if line["status"] not in ("success", "pass")]


@dag(schedule="*/15 * * * *", start_date=datetime(2025, 1, 1), catchup=False, max_active_runs=1, tags=["wayline"])
def wayline():
    run_wayline()


wayline()
