"""Weights & Biases: a run in the project `ftrun`, or in that of WANDB_PROJECT; the group is its task."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from ftrun.training.tracking.stored import store_id, stored_id

if TYPE_CHECKING:
    from ftrun.reports.closing import Closing
    from ftrun.runs.run import Run
    from ftrun.training.tracking.tracker import End, Service


class Wandb:
    """An open run of W&B."""

    def __init__(self, online: Any) -> None:
        self.online = online

    def log(self, values: dict[str, float], step: int) -> None:
        self.online.log({**values, "step": step})

    def finish(self, closing: Closing, step: int) -> None:
        self.online.summary.update({**closing.scores, **closing.texts})
        self.online.notes = self.online.notes or closing.card
        for path in closing.files:
            # below the directory's own name, since W&B has a config.yaml of its own
            self.online.save(str(path), base_path=str(closing.place.parent), policy="now", glob=False)

    def close(self, end: End) -> None:
        self.online.finish(exit_code=int(end != "finished"))


def connect(run: Run) -> Service:
    """A new run of W&B, or the one that it was before; beside one that the caller has open."""
    import wandb

    online = wandb.init(
        project=os.environ.get("WANDB_PROJECT", "ftrun"),  # an argument would override the environment
        name=os.environ.get("WANDB_NAME", run.path.name),
        dir=os.environ.get("WANDB_DIR", str(run.path)),
        group=os.environ.get("WANDB_RUN_GROUP", run.config["task"]["name"]),
        id=stored_id(run, "wandb"),
        resume="allow",
        reinit="create_new",
        config=run.config,
    )
    store_id(run, "wandb", online.id)
    online.define_metric("*", step_metric="step")  # W&B's own step cannot go back, as a resumed run does
    return Wandb(online)
