"""A greedy soup of finished runs: each is added to the average if the score on validation does not fall.

Wortsman et al. 2022, "Model soups", recipe 1: sorted by their score on validation, the best first, a network
is kept if the average with it is at least as good on validation as the average without it. The test split
has no part in it and is scored once, at the end.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ftrun.errors import ConfigError, DataError, UserError, counted
from ftrun.experiments.inference import Saved
from ftrun.experiments.lora.equivalence import COMPARED, HEADING, in_fp32
from ftrun.experiments.lora.merge import compared, folded, reloaded, write_origin, write_whole
from ftrun.experiments.soup.ingredients import Ingredient
from ftrun.models.architecture import IMAGES
from ftrun.models.files.reading import read_config
from ftrun.models.load import quiet
from ftrun.models.reload import processor_of, reload
from ftrun.models.saved.below import named
from ftrun.reports.numbers import short
from ftrun.reports.pages.model_card import Card, write_card
from ftrun.runs.artifacts import LORA, TOLERANCE
from ftrun.runs.files import as_json, beside, free_space_check
from ftrun.runs.manifest import seal
from ftrun.runs.run import RESULT, Run
from ftrun.runs.terminal import say
from ftrun.runs.warm import digest
from ftrun.settings.read import read
from ftrun.tasks.data import TaskData
from ftrun.tasks.metrics.metric import lookup
from ftrun.training.devices import open_accelerator
from ftrun.training.evaluate import evaluate

RECORD = "soup.json"
Weights = dict[str, Tensor]


@dataclass
class Trial:
    """One run: its score alone as it ended, that of the average with it, and whether it is in."""

    run: str
    alone: float
    together: float
    loss: float  # of the average with it
    added: bool


class Judge:
    """The rows of validation and test, and one network into which weights are put to be scored, in fp32."""

    def __init__(self, found: list[Ingredient]) -> None:
        self.run, self.metric = found[0].run, found[0].metric
        self.settings = in_fp32(read(self.run.settings))
        spec, place = self.settings.task.spec(None), self.run.model_dir
        if spec.projection is not None:
            raise ConfigError(
                f"task={self.settings.task.name} is scored with a projection that no saved network has, so"
                " its runs cannot be sorted; possible: runs with labels that start from such a network"
            )
        deterministic = self.settings.train.deterministic
        self.accelerator = open_accelerator(self.settings.device, "fp32", deterministic)
        trust = self.settings.model.trust
        config = read_config(place, **trust)
        self.processor = processor_of(place, config, spec.auto_class == IMAGES, **trust)
        self.data = TaskData.read(self.settings.task, self.settings.seed, config)
        refuse_other_rows(self.data, found)
        self.data.encode(self.processor, COMPARED)
        self.net = plain(self.run)
        self.model = self.accelerator.prepare_model(Saved(self.net), evaluation_mode=True)

    def scores(self, weights: Weights, split: str) -> dict[str, float]:
        """Every metric of the network with these weights on a split."""
        self.net.load_state_dict(weights)
        size = 4 * self.settings.train.batch_size
        return evaluate(self.model, self.data, self.data.dataset(split), size, self.accelerator)[0]


def plain(run: Run) -> nn.Module:
    """A finished run's network in fp32, what it trained beside the weights folded into them."""
    settings = read(run.settings)
    if (run.model_dir / LORA).is_file():
        return folded(run.model_dir, settings)
    with quiet():
        spec, trust = settings.task.spec(None), settings.model.trust_remote_code
        return reload(run.model_dir, spec.auto_class, in_full=True, trust=trust)


def refuse_other_rows(data: TaskData, found: list[Ingredient]) -> None:
    """DataError where the rows are no more those of the runs, ConfigError where runs have other ones.

    With task.subset each seed has training rows of its own; validation and test must be the same.
    """
    kept = [(each.run.read_json("data.json") or {}).get("fingerprint") for each in found]
    if kept[0] != data.rows.fingerprint:
        raise DataError(f"{found[0].run.path}: its rows have changed since it was trained; put them back")
    for each, own in zip(found, kept, strict=True):
        if own == kept[0]:
            continue
        settings = read(each.run.settings)
        theirs = TaskData.read(settings.task, settings.seed)
        if theirs.rows.fingerprint != own:
            raise DataError(f"{each.run.path}: its rows have changed since it was trained; put them back")
        for split in ("validation", "test"):
            if digest([theirs.rows.splits[split]]) != digest([data.rows.splits[split]]):
                raise ConfigError(f"{each.run.path} and {found[0].run.path} have other {split} rows")


def soup(found: list[Ingredient], output: Path, method: str) -> None:
    """Average the runs, the best on validation first, and write the network with its card and `soup.json`.

    `method` is greedy, or uniform: all of them, whatever they score. Nothing is at `output` before all of it
    has gone well. Raises ConfigError and DataError for runs that do not go together.
    """
    judge = Judge(found)
    free_space_check(output, sum(value.nbytes for value in judge.net.state_dict().values()))
    rows = len(judge.data.dataset(COMPARED))
    say(f"{len(found)} runs by eval_{judge.metric} on {counted(rows, 'validation row')}, the best first")
    weights, trials = chosen(judge, found, method == "greedy")
    judge.data.encode(judge.processor, "test")
    test = judge.scores(weights, "test")
    told = summary(judge, trials, test, method == "greedy")
    for line in told:
        say(line)
    with beside(output) as place:
        write(judge, weights, place)
        record: dict[str, Any] = {
            "method": method,
            "metric": judge.metric,
            "runs": [asdict(each) for each in trials],
            **{f"test_{name}": value for name, value in test.items()},
        }
        (place / RECORD).write_text(as_json(record), encoding="utf-8")
        title = f"{short(named(judge.settings.model.name))} on {judge.settings.task.name}, a soup"
        story = f"{as_markdown(trials, judge.metric)}\n\n{'. '.join(told)}."
        first = sorted(test.items(), key=lambda pair: pair[0] != judge.metric)
        write_card(place, judge.settings, Card(title, ["model-soup"], [("Soup", story)], first))
        seal(place)


def chosen(judge: Judge, found: list[Ingredient], greedy: bool) -> tuple[Weights, list[Trial]]:
    """The weights of the soup, and what each run did to the score on validation."""
    mean: Weights = {}
    best, inside = -float("inf"), 0
    trials: list[Trial] = []
    names, sign = names_of(found), lookup(judge.metric).sign
    width = max(map(len, names))
    say(f"{'':<{width}}{'alone':>10}{'with it':>10}{'loss':>10}")
    for name, each in zip(names, found, strict=True):
        own = (judge.net if each is found[0] else plain(each.run)).state_dict()
        mixed = mixture(mean, own, inside, each.run)
        scores = judge.scores(mixed, COMPARED)
        value = sign * scores[judge.metric]
        added = value >= best or not greedy
        if added:
            mean, best, inside = mixed, value, inside + 1
        trials.append(Trial(name, each.score, scores[judge.metric], scores["loss"], added))
        numbers = f"{each.score:>10.4f}{scores[judge.metric]:>10.4f}{scores['loss']:>10.4f}"
        say(f"{name:<{width}}{numbers}{'' if added else '  left out'}")
    return mean, trials


def mixture(mean: Weights, own: Weights, inside: int, run: Run) -> Weights:
    """The mean of `inside` networks with one more; what is no fraction, such as positions, stays the first's.

    ConfigError for a network of other tensors.
    """
    if not inside:
        return {name: value.detach().clone() for name, value in own.items()}
    shapes = [{name: list(value.shape) for name, value in weights.items()} for weights in (own, mean)]
    for name in [*own, *mean]:
        theirs, ours = (known.get(name, "absent") for known in shapes)
        if theirs != ours:
            raise ConfigError(
                f"{run.path} is of another network: {name} is {theirs} there and {ours} in the others"
            )
    share = 1 / (inside + 1)
    return {
        name: value.lerp(own[name].to(value.device), share) if value.is_floating_point() else value
        for name, value in mean.items()
    }


def names_of(found: list[Ingredient]) -> list[str]:
    """The runs' directories, with the one above where two have the same name."""
    places = [each.run.path.resolve() for each in found]
    names = [place.name for place in places]
    return names if len({*names}) == len(names) else ["/".join(place.parts[-2:]) for place in places]


def summary(judge: Judge, trials: list[Trial], test: dict[str, float], greedy: bool) -> list[str]:
    """What came of it, beside the best run alone."""
    metric, inside = judge.metric, [each for each in trials if each.added]
    before = (judge.run.read_json(RESULT) or {}).get(f"test_{metric}")
    beside = "" if before is None else f", of the best run alone {before:.4f}"
    if len(inside) == 1:
        first = "no average is as good on validation as the best run alone, whose network this is"
    else:
        first = (
            f"an average of {len(inside)} of {len(trials)} runs: eval_{metric} {inside[-1].together:.4f}, of"
            f" the best run alone {trials[0].together:.4f}"
        )
        if greedy:
            first += "; chosen on these rows, so expect a little less on others"
    return [first, f"test_{metric} {test[metric]:.4f}, scored once{beside}"]


def as_markdown(trials: list[Trial], metric: str) -> str:
    """What each run did, for the card."""
    head = [
        f"| run, the best first | eval_{metric} alone | of the average with it | loss | |",
        "|---|---:|---:|---:|---|",
    ]
    return "\n".join(
        head
        + [
            f"| {each.run} | {each.alone:.4f} | {each.together:.4f} | {each.loss:.4f} |"
            f" {'in' if each.added else 'left out'} |"
            for each in trials
        ]
    )


def write(judge: Judge, weights: Weights, place: Path) -> None:
    """The network as plain transformers loads it, read back and compared before it is kept."""
    judge.net.load_state_dict(weights)
    write_whole(judge.net.cpu(), place, judge.processor)
    write_origin(place, judge.settings)
    say(HEADING)
    size = 4 * judge.settings.train.batch_size
    pair = judge.net, reloaded(place, judge.settings)
    found = compared("the average, read back", *pair, judge.data, size, judge.accelerator)
    if not found.largest_difference <= TOLERANCE:
        raise UserError(
            f"the average that was written differs from the one scored: a logit by"
            f" {found.largest_difference:.1e}; nothing was written"
        )
