"""README.md of a saved model: what it is, on which data, how good, and the lines that use it.

Its front matter is that of the Hub (Mitchell et al. 2019 is where such cards come from). Nothing in it is a
place on a machine.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftrun import __version__
from ftrun.data.baselines import NAMES
from ftrun.data.card import rounded
from ftrun.data.leaks import leaked
from ftrun.errors import ConfigError
from ftrun.models.files.reading import CONFIG, stored
from ftrun.models.saved.below import named, on_hub
from ftrun.models.saved.notes import notes_of
from ftrun.models.saved.usage import Usage, usage_of
from ftrun.reports.numbers import between, score, short, words
from ftrun.reports.pages.run_page import strategy_settings
from ftrun.reports.statistics.intervals import interval_of
from ftrun.runs.artifacts import BOTTLENECKS, LORA, update_in
from ftrun.runs.content import answers_of
from ftrun.runs.files import write_atomically
from ftrun.runs.run import ENVIRONMENT, PREDICTIONS

if TYPE_CHECKING:
    from huggingface_hub import ModelCardData

    from ftrun.runs.run import Run
    from ftrun.settings.schema import Settings

README = "README.md"
HEAD = re.compile(r"\A---\n(.*?)\n---\n", re.DOTALL)  # the front matter of a card
PLACE = re.compile(r"^(?:[~/\\]|\.{1,2}[/\\]|[A-Za-z]:[/\\])")  # how a path begins that a machine decides
TRAINING = ("lr", "batch_size", "epochs", "max_steps", "weight_decay", "warmup", "precision", "optimizer")


@dataclass
class Card:
    """What a card says besides how the network is used; a section is a heading and its text."""

    title: str
    tags: list[str]
    sections: list[tuple[str, str]]
    scores: list[tuple[str, float]] = field(default_factory=list)  # metric and value on the test split
    usage: Usage | None = None  # None: as its files are used by plain libraries


def write_run_card(run: Run, settings: Settings, result: dict[str, Any]) -> None:
    """The card of a run that ends with this result, whole or not at all."""
    write_card(run.model_dir, settings, card_of(run, result))


def write_card(place: Path, settings: Settings, card: Card) -> None:
    """README.md in the directory of a saved model."""
    write_atomically(place / README, text_of(place, settings, card))


def text_of(place: Path, settings: Settings, card: Card) -> str:
    """The whole page."""
    usage = card.usage or usage_of(place, settings.task.spec(None).auto_class, settings.raw["task"])
    front = front_matter(place, settings, card, usage.library, usage.pipeline).to_yaml()
    use = f"With DIR for this directory:\n\n```python\n{usage.code}\n```{in_windows(settings)}"
    update = update_in(place) if (place / LORA).is_file() else ""
    notes = notes_of(stored(place / CONFIG), named(settings.model.name), update)
    own = [("Use", use), *notes, *card.sections]
    body = "\n\n".join(f"## {title}\n\n{text}" for title, text in own)
    return f"---\n{front.strip()}\n---\n\n# {card.title}\n\n{body}\n"


def in_windows(settings: Settings) -> str:
    """What the lines do not do where the network was trained to read a text in several windows."""
    if not settings.task.spec(None).windows:
        return ""
    task = settings.raw["task"]
    return (
        f"\n\nThey read one window of a text. A text of more than {task['max_length']} tokens was read in"
        f" several (`task.long=windows`), and the {task['aggregate']} of their logits is the"
        " answer: `ftrun predict`."
    )


def front_matter(place: Path, settings: Settings, card: Card, library: str, pipeline: str) -> ModelCardData:
    """What the Hub reads of a card."""
    from huggingface_hub import EvalResult, ModelCardData

    task, base = settings.task.name, settings.model.name
    results = [
        EvalResult(pipeline, task, task, metric, rounded(value), dataset_split="test", metric_name=metric)
        for metric, value in card.scores
    ]
    beside = any((place / name).is_file() for name in (LORA, BOTTLENECKS))
    pretrained = settings.model.init == "pretrained" and on_hub(base)
    return ModelCardData(
        license=license_of(base),
        base_model=base if pretrained else None,
        base_model_relation=("adapter" if beside else "finetune") if pretrained else None,
        library_name=library,
        pipeline_tag=pipeline,
        tags=["ftrun", *card.tags],
        model_name=card.title if results else None,
        eval_results=results or None,
    )


def license_of(base: str) -> str | None:
    """What the card of a checkpoint says, where it is on this machine."""
    from ftrun.models.files.locate import Checkpoint, local

    try:
        place = local(base)
    except ConfigError:  # it is gone
        return None
    card = Checkpoint(base if place is None else str(place), {}).cached(README)
    found = HEAD.match(card.read_text(encoding="utf-8", errors="replace")) if card is not None else None
    if found is None:
        return None
    import yaml

    try:
        known = yaml.safe_load(found[1])
    except yaml.YAMLError:
        return None
    own = known.get("license") if isinstance(known, dict) else None
    return own if isinstance(own, str) else None


def card_of(run: Run, result: dict[str, Any]) -> Card:
    """What a run's files say; `result` is what its result.json holds, or is about to."""
    config = run.config
    metric = str(result.get("metric")).removeprefix("eval_")
    data = run.read_json("data.json") or {}
    values = {name[5:]: value for name, value in result.items() if name.startswith("test_")}
    title = f"{short(named(config['model']['name']))} on {config['task']['name']}, {config['strategy']}"
    sections = [
        ("Scores", scores_of(run, metric, values, data.get("baselines", {}))),
        ("Data", data_of(config, result, data)),
        ("Settings", settings_of(config, result)),
        ("Versions", versions_of(run)),
    ]
    first = sorted(values.items(), key=lambda pair: pair[0] != metric)
    return Card(title, [str(config["strategy"])], sections, [(name, float(v)) for name, v in first])


def scores_of(run: Run, metric: str, values: dict[str, Any], baselines: dict[str, Any]) -> str:
    """The table of the test split: every metric, the main one's interval, and the baselines."""
    beside = [name for name in NAMES if name in baselines]
    ends = interval_of(metric, answers_of(run.path / PREDICTIONS)) if values else None
    head = ["test", "this model", "95 % interval", *(NAMES[name] for name in beside)]
    rows = [
        [
            f"**{name}**" if name == metric else name,
            score(value, name),
            between(*ends, name) if ends is not None and name == metric else "",
            *(score(baselines[each].get(f"test_{name}"), name) for each in beside),
        ]
        for name, value in sorted(values.items(), key=lambda pair: pair[0] != metric)
    ]
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def data_of(config: dict[str, Any], result: dict[str, Any], data: dict[str, Any]) -> str:
    """Which rows it has learned from and was scored on."""
    counts = ", ".join(f"{split} {count:,}" for split, count in result.get("rows", {}).items())
    lines = [f"- task: {config['task']['name']} (task={config['task']['kind']})", f"- rows: {counts}"]
    if data.get("fingerprint"):
        lines.append(f"- SHA-256 of all rows: `{data['fingerprint']}`")
    lines += [f"- {leaked(leak)}" for leak in data.get("leaks", [])]
    return "\n".join(lines)


def settings_of(config: dict[str, Any], result: dict[str, Any]) -> str:
    """What was trained, and how."""
    train = {name: config["train"][name] for name in TRAINING if config["train"].get(name) is not None}
    chosen = {"strategy": config["strategy"], **strategy_settings(config), "seed": config["seed"], **train}
    told = f"`{words(without_places(chosen))}`"
    if "best_step" not in result:  # of a composition, which was not trained
        return told
    trained, total = result["trained_parameters"], result["total_parameters"]
    return (
        f"{told}\n\n{trained:,} of {total:,} weights were trained;"
        f" these are the ones of step {result['best_step']:,} of {result['steps']:,}, the best on validation."
    )


def without_places(value: Any) -> Any:
    """The same settings with the last part of every path."""
    if isinstance(value, dict):
        return {name: without_places(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [without_places(each) for each in value]
    return short(value) if isinstance(value, str) and PLACE.match(value) else value


def versions_of(run: Run) -> str:
    """Of the libraries that trained it."""
    known = (run.read_json(ENVIRONMENT) or {}).get("versions", {"ftrun": __version__})
    return ", ".join(f"{name} {version}" for name, version in known.items() if version is not None)
