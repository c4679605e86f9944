"""MLflow: a run in the experiment of its task's name, or in that of MLFLOW_EXPERIMENT_NAME or _ID."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from ftrun.training.tracking.stored import flat, store_id, stored_id

if TYPE_CHECKING:
    from ftrun.reports.closing import Closing
    from ftrun.runs.run import Run
    from ftrun.training.tracking.tracker import End, Service

LONGEST, WHOLE = 500, 5000  # characters of a parameter's and of a tag's value that every server takes
NOTE = "mlflow.note.content"  # the tag that is a run's description
STATUS = {"finished": "FINISHED", "interrupted": "KILLED", "failed": "FAILED"}


class Mlflow:
    """A run at an MLflow server or in its files; another that the caller has open stays as it is."""

    def __init__(self, client: Any, known: str) -> None:
        self.client, self.known = client, known

    def log(self, values: dict[str, float], step: int) -> None:
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        metrics = [Metric(name, value, now, step) for name, value in values.items() if name != "step"]
        self.client.log_batch(self.known, metrics=metrics)

    def finish(self, closing: Closing, step: int) -> None:
        self.log(closing.scores, step)
        for name, text in {**closing.texts, NOTE: closing.card}.items():
            self.client.set_tag(self.known, name, text[:WHOLE])
        for path in closing.files:
            folder = path.parent.relative_to(closing.place).as_posix()
            self.client.log_artifact(self.known, str(path), None if folder == "." else folder)

    def close(self, end: End) -> None:
        self.client.set_terminated(self.known, STATUS[end])


def connect(run: Run) -> Service:
    """A new run of MLflow with the run's settings as parameters, or the one that it was before."""
    from mlflow import MlflowClient
    from mlflow.entities import Param

    client, known = MlflowClient(), stored_id(run, "mlflow")
    if known is not None:
        client.update_run(known, status="RUNNING")
    else:
        known = begun(client, run)
        store_id(run, "mlflow", known)
        settings = [Param(name, str(value)[:LONGEST]) for name, value in flat(run.config).items()]
        client.log_batch(known, params=settings)
    return Mlflow(client, known)


def begun(client: Any, run: Run) -> str:
    """The id of a new run, which is a child of the one that the caller has open."""
    import mlflow
    from mlflow.tracking.context.registry import resolve_tags

    outer = mlflow.active_run()
    own = {} if outer is None else {"mlflow.parentRunId": outer.info.run_id}
    place = outer.info.experiment_id if outer is not None else experiment(client, run.config["task"]["name"])
    made = client.create_run(place, tags=resolve_tags(own), run_name=run.path.name)
    found: str = made.info.run_id
    return found


def experiment(client: Any, task: str) -> str:
    """The id of the experiment that the environment names, else of the task's; it is made where it is new."""
    from mlflow.exceptions import MlflowException

    name = os.environ.get("MLFLOW_EXPERIMENT_NAME")
    known = os.environ.get("MLFLOW_EXPERIMENT_ID")  # mlflow.set_experiment sets it too
    if known and not name:
        return known
    found = client.get_experiment_by_name(name or task)
    if found is None:
        try:
            return str(client.create_experiment(name or task))
        except MlflowException:  # another run of the sweep has made it meanwhile
            found = client.get_experiment_by_name(name or task)
            if found is None:
                raise
    return str(found.experiment_id)
