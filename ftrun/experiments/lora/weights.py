"""The weights of a composition, found on a few labelled rows: a grid, then smaller steps around its best."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import pairwise, product
from typing import TYPE_CHECKING, Any

from ftrun.errors import ConfigError, counted
from ftrun.experiments.inference import Saved, known_rows
from ftrun.experiments.lora.blend import Blend, with_head
from ftrun.experiments.lora.equivalence import in_fp32
from ftrun.experiments.lora.lowrank import Update
from ftrun.models.files.reading import read_config
from ftrun.models.tokenizer import open_tokenizer
from ftrun.runs.terminal import say
from ftrun.settings.read import read
from ftrun.settings.schema import Settings
from ftrun.settings.seeds import stream
from ftrun.tasks.data import TaskData
from ftrun.training.devices import open_accelerator
from ftrun.training.evaluate import evaluate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ftrun.tasks.scorer import Row, Scorer

POINTS = 400  # of a grid at most
HALVINGS = 2  # of the step, after the grid
DRAWS = 500  # of the bootstrap
SHOWN = 4  # points of a list


@dataclass
class Point:
    """One choice of weights and what it scored."""

    weights: list[float]
    score: float
    loss: float


class Slice:
    """The labelled rows, and the blend that answers them at any weights; no point is computed twice."""

    def __init__(self, updates: list[Update], head: int, file: str, columns: dict[str, str]) -> None:
        serving = updates[head]
        settings = in_fp32(with_columns(serving.settings, columns))
        self.settings = settings
        self.accelerator = open_accelerator(settings.device, "fp32", settings.train.deterministic)
        place = serving.run.model_dir
        self.data = TaskData.of_file(settings.task, file, read_config(place, **settings.model.trust))
        self.data.encode(open_tokenizer(place, str(place), **settings.model.trust), "test")
        self.examples = self.data.dataset("test")
        net = with_head(serving)
        self.net = self.accelerator.prepare_model(Saved(net), evaluation_mode=True)
        self.blend = Blend(net, [update.factors for update in updates])
        self.metric = self.data.metric
        self.sign = self.data.scorer.metrics[self.metric].sign
        self.known: dict[tuple[float, ...], Point] = {}
        self.answered: dict[tuple[float, ...], list[Row]] = {}

    def at(self, weights: Sequence[float]) -> Point:
        """The score at these weights."""
        key = tuple(round(weight, 6) for weight in weights)
        if key not in self.known:
            self.blend.set(list(key))
            size = 4 * self.settings.train.batch_size
            scores, self.answered[key] = evaluate(self.net, self.data, self.examples, size, self.accelerator)
            self.known[key] = Point(list(key), scores[self.metric], scores["loss"])
        return self.known[key]

    def better(self, point: Point) -> tuple[float, float]:
        """Greater is better: the score, and among equals the lower loss."""
        return self.sign * point.score, -point.loss

    def ranked(self) -> list[Point]:
        """Every point, best first."""
        return sorted(self.known.values(), key=self.better, reverse=True)


def with_columns(settings: Settings, columns: dict[str, str]) -> Settings:
    """The settings, with other names for the columns of the slice; ConfigError where the task has none."""
    task = settings.raw["task"]
    for name in columns:
        if name not in task:
            raise ConfigError(f"compose: --{name}: task={settings.task.name} has no such column")
    return read(settings.raw | {"task": task | columns})


def search(
    updates: list[Update], head: int, file: str, columns: dict[str, str], grid: list[float]
) -> tuple[list[float], dict[str, Any]]:
    """The best weights on the rows of a file, and what was seen on the way, JSON-ready."""
    if len(grid) < 2 or len(set(grid)) < len(grid):
        raise ConfigError("compose: --grid takes at least two different numbers")
    if len(grid) ** len(updates) > POINTS:
        raise ConfigError(
            f"compose: --grid of {len(grid)} values for {len(updates)} runs makes "
            f"{len(grid) ** len(updates):,} points, more than {POINTS}; use fewer values"
        )
    rows = Slice(updates, head, file, columns)
    count = len(grid) ** len(updates)
    for update in updates:
        if update.settings.raw["task"]["kind"] == rows.settings.raw["task"]["kind"]:
            for note in known_rows(update.run, update.settings, rows.data, file):
                say(note)
    say(f"search: {counted(len(rows.examples), 'row')} of {file}, {count} points, then smaller steps")
    alone = [[float(i == j) for j in range(len(updates))] for i in range(len(updates))]
    marks = [[0.0] * len(updates), *alone]
    for weights in [*product(grid, repeat=len(updates)), *marks]:
        rows.at(weights)
    refine(rows, grid)
    best = rows.ranked()[0]
    low, high = interval(rows, best)
    names = [update.run.path.resolve().name for update in updates]
    show(rows, names, grid, marks, (low, high))
    return best.weights, {
        "file": file,
        "rows": len(rows.examples),
        "metric": rows.metric,
        "weights": best.weights,
        "score": best.score,
        "interval": [low, high],
        "points": [asdict(point) for point in rows.ranked()],
    }


def refine(rows: Slice, grid: list[float]) -> None:
    """From the best point along each weight by half a step, within the grid, as long as that helps; twice."""
    low, high = min(grid), max(grid)
    step = max(after - before for before, after in pairwise(sorted(grid)))
    for _ in range(HALVINGS):
        step /= 2
        while True:
            best = rows.ranked()[0]
            for axis in range(len(best.weights)):
                for move in (-step, step):
                    moved = [w + move * (axis == i) for i, w in enumerate(best.weights)]
                    if low <= moved[axis] <= high:
                        rows.at(moved)
            if rows.ranked()[0] is best:
                break


def interval(rows: Slice, point: Point) -> tuple[float, float]:
    """95 % by the percentile bootstrap over rows (Efron 1979); blind to the choice among points."""
    import numpy as np

    chance = np.random.default_rng(stream(rows.settings.seed, "bootstrap"))
    answered = rows.answered[tuple(point.weights)]
    draws = chance.integers(0, len(answered), (DRAWS, len(answered)))
    scores = [score_of(rows.data.scorer, rows.metric, [answered[i] for i in draw]) for draw in draws]
    return float(np.percentile(scores, 2.5)), float(np.percentile(scores, 97.5))


def score_of(scorer: Scorer, metric: str, rows: list[Row]) -> float:
    """The task's score of answers; accuracy counted here, which is a hundred times as fast."""
    if metric == "accuracy":
        return sum(row.label == row.answer["answer"] for row in rows) / len(rows)
    return scorer.score(rows)[metric]


def show(
    rows: Slice, names: list[str], grid: list[float], marks: list[list[float]], bounds: tuple[float, float]
) -> None:
    """The surface of two, the best points with no LoRA and each alone below, and what was chosen."""
    if len(names) == 2:
        surface(rows, names, sorted(grid))
    widths = [max(len(name), 6) + 2 for name in names]
    heading = "".join(f"{name:>{width}}" for name, width in zip(names, widths, strict=True))
    say(f"{heading}{rows.metric:>12}{'loss':>10}")
    ranked = rows.ranked()
    for place, point in enumerate(ranked):
        marked = point.weights in marks
        if place < SHOWN or marked:
            cells = "".join(
                f"{weight:>{width}.3f}" for weight, width in zip(point.weights, widths, strict=True)
            )
            note = "  chosen" if place == 0 else remark(point, names) if marked else ""
            say(f"{cells}{point.score:>12.4f}{point.loss:>10.4f}{note}")
    say(
        f"chosen: {rows.metric} {ranked[0].score:.4f}, 95 % interval {bounds[0]:.4f} to {bounds[1]:.4f}; "
        f"the best of {len(ranked)} points on these rows, so expect a little less on other rows"
    )
    if max(ranked[0].weights) == max(grid):
        say(f"{max(grid):g} is the end of the grid; a wider one may be better: --grid 0,0.5,1,1.5,2")


def surface(rows: Slice, names: list[str], grid: list[float]) -> None:
    """The score over the grid: the first weight downwards, the second across."""
    say(f"{rows.metric}: {names[0]} downwards, {names[1]} across")
    say(f"{'':>8}" + "".join(f"{weight:>9.3g}" for weight in grid))
    for first in grid:
        say(f"{first:>8.3g}" + "".join(f"{rows.at([first, second]).score:>9.4f}" for second in grid))


def remark(point: Point, names: list[str]) -> str:
    if not any(point.weights):
        return "  no LoRA"
    return f"  {names[point.weights.index(1.0)]} alone"
