"""What a run came to, as a tracking service takes it: numbers, words, its card and its small files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftrun.reports.diagnosing.diagnosis import diagnose
from ftrun.reports.diagnosing.evidence import Evidence
from ftrun.reports.pages.model_card import HEAD, README
from ftrun.reports.statistics.intervals import interval_of
from ftrun.reports.summary import row_of
from ftrun.reports.verdicts.single import verdict_of
from ftrun.runs.content import answers_of
from ftrun.runs.run import CONFIG, DETAILS, ENVIRONMENT, PREDICTIONS, RESULT, SETTLED

if TYPE_CHECKING:
    from ftrun.runs.run import Run

SMALL = (CONFIG, SETTLED, RESULT, "data.json", "cost.json", DETAILS, ENVIRONMENT)
MOST = 2**20  # bytes of a file that counts as small


@dataclass(frozen=True)
class Closing:
    """Of a run with a result; without a test split it has the best validation scores alone."""

    scores: dict[
        str, float
    ]  # test_accuracy; test_accuracy_low and _high, its 95 % interval; best_eval_accuracy
    texts: dict[str, str]  # verdict; data_sha256, the hash of all rows
    card: str  # the model card in Markdown, without what only the Hub reads; empty where no model was saved
    place: Path  # the run directory
    files: list[Path]  # below it


def closing_of(run: Run) -> Closing:
    """From the files of a run; UserError where its result is damaged."""
    result, row, data = run.result("metric"), row_of(run), run.read_json("data.json") or {}
    metric = row["metric"]
    answered = answers_of(run.path / PREDICTIONS)
    found = diagnose(Evidence.of(run, metric, answered=answered))
    verdict = "\n".join(f"{word}: {sentence}" for word, sentence in verdict_of(row, data, found))
    texts = {"verdict": verdict, "data_sha256": data.get("fingerprint")}
    card = run.model_dir / README
    files = [path for path in [*(run.path / name for name in SMALL), card] if small(path)]
    return Closing(
        scores=scores_of(result, metric, interval_of(metric, answered)),
        texts={name: text for name, text in texts.items() if text},
        card=HEAD.sub("", card.read_text(encoding="utf-8")).strip() if card.is_file() else "",
        place=run.path,
        files=files,
    )


def scores_of(
    result: dict[str, Any], metric: str | None, ends: tuple[float, float] | None
) -> dict[str, float]:
    """Every number of the test split, the main one's interval, the best validation score, the forgetting."""
    scores = {name: value for name, value in result.items() if name.startswith("test_")}
    if scores and ends is not None:
        scores |= {f"test_{metric}_low": ends[0], f"test_{metric}_high": ends[1]}
    own = {f"best_eval_{metric}": result.get(f"eval_{metric}"), "forgetting": result.get("forgetting")}
    return {name: float(value) for name, value in {**scores, **own}.items() if isinstance(value, int | float)}


def small(path: Path) -> bool:
    """Whether a file is there and costs next to nothing to send."""
    return path.is_file() and path.stat().st_size <= MOST
