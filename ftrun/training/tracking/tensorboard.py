"""TensorBoard: event files in the run directory, with the settings and closing scores in its HPARAMS tab."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ftrun.training.tracking.stored import flat

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

    from ftrun.reports.closing import Closing
    from ftrun.runs.run import Run
    from ftrun.training.tracking.tracker import End, Service


class TensorBoard:
    """Event files, begun with the first number: only then is it known where a resumed run goes on."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self._writer: SummaryWriter | None = None

    def writer(self, step: int) -> SummaryWriter:
        """The open writer; its first step hides what was written after the checkpoint that is resumed."""
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self.run.path / "tensorboard"), purge_step=step, flush_secs=20)
        return self._writer

    def log(self, values: dict[str, float], step: int) -> None:
        for name, value in values.items():
            if name != "step":
                self.writer(step).add_scalar(name, value, step)

    def finish(self, closing: Closing, step: int) -> None:
        from torch.utils.tensorboard.summary import hparams

        writer = self.writer(step)
        self.log(closing.scores, step)
        for name, text in {**closing.texts, "card": closing.card}.items():
            writer.add_text(name, text, step)
        settings = {
            name: value if isinstance(value, int | float | str) else str(value)
            for name, value in flat(self.run.config).items()
            if value is not None
        }
        # SummaryWriter.add_hparams would make a run of its own in a directory of its own
        for part in hparams(settings, closing.scores):
            writer.file_writer.add_summary(part)

    def close(self, end: End) -> None:
        if self._writer is not None:
            self._writer.close()


def connect(run: Run) -> Service:
    """The event files of a run, whose directory need not have any yet."""
    return TensorBoard(run)
