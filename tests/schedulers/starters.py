"""Holds the starters of pipeline/deploy against the tools that they are for.

Usage: starters.py DEPLOY_FOLDER PROJECT

`wayline` is found on the PATH. PROJECT has something new to do. Prints a line per starter; ends with 1 if one is wrong.
"""

import importlib.util
import os
import pathlib
import subprocess
import sys
import tempfile

os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp()
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
os.environ["DAGSTER_DISABLE_TELEMETRY"] = "1"


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def kubernetes(folder, project):
    import kubernetes_validate
    import yaml

    (document,) = yaml.safe_load_all((folder / "cronjob.yaml").read_text())
    kubernetes_validate.validate(document, "1.37", strict=True)
    job = document["spec"]["jobTemplate"]["spec"]
    rules = job["podFailurePolicy"]["rules"]
    assert rules[0]["onExitCodes"]["values"] == [1, 2], "what a person must mend is not tried again"
    assert document["spec"]["concurrencyPolicy"] == "Forbid"


def docker(folder, project):
    linter = pathlib.Path(sys.executable).with_name("hadolint")
    subprocess.run([linter, "--failure-threshold", "info", folder / "Dockerfile"], check=True)


def airflow(folder, project):
    from airflow.sdk.exceptions import AirflowException, AirflowFailException

    module = load(folder / "airflow_dag.py")
    dag = module.wayline()
    (task,) = dag.tasks
    assert task.retries == 3 and dag.max_active_runs == 1
    run = task.python_callable
    first, second = run(project), run(project)
    assert (first["status"], second["status"]) == ("success", "nothing_new"), (first, second)
    raises(AirflowFailException, lambda: run("/nowhere"))
    with held(project):
        error = raises(AirflowException, lambda: run(project))
        assert not isinstance(error, AirflowFailException), "a lock that is held is waited for"


def dagster(folder, project):
    import dagster as tool

    module = load(folder / "dagster_job.py")
    module.PROJECT = project
    definitions = module.defs
    assert definitions.resolve_job_def("wayline").name == "wayline"
    done = tool.materialize([module.marts])
    assert done.success
    raises(tool.Failure, lambda: module.run_wayline("/nowhere"))
    with held(project):
        raises(tool.RetryRequested, lambda: module.run_wayline(project))


def raises(kind, work):
    try:
        work()
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__} was raised")


class held:
    """Holds the lock of a project, as a run that is under way does."""

    def __init__(self, project):
        self.path = pathlib.Path(project) / ".wayline.lock"

    def __enter__(self):
        import fcntl

        self.file = open(self.path, "a")
        fcntl.flock(self.file, fcntl.LOCK_EX)

    def __exit__(self, *_):
        self.file.close()


def main():
    folder, project = pathlib.Path(sys.argv[1]), sys.argv[2]
    wrong = 0
    for starter in [kubernetes, docker, airflow, dagster]:
        try:
            starter(folder, project)
            print(f"{starter.__name__}: ok", flush=True)
        except Exception as error:
            wrong += 1
            print(f"{starter.__name__}: {type(error).__name__}: {error}", flush=True)
    # Libraries that are torn down after this have nothing to add.
    os._exit(1 if wrong else 0)


main()
