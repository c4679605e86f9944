"""Measure how close a task is to a network's pre-training, and recommend a strategy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ftrun.commands._parser import Parser
from ftrun.commands._settings import composed, keys_of
from ftrun.errors import ConfigError, counted
from ftrun.runs.typed import command

if TYPE_CHECKING:
    from ftrun.experiments.advice import Advice
    from ftrun.experiments.domain_gap import Familiarity
    from ftrun.models.model import Model
    from ftrun.settings.schema import Settings
    from ftrun.tasks.data import TaskData


LIKE = "embedded:docstrings"  # English text that needs no download
HARDER = 1.0  # nats per token: e times the perplexity


def main(arguments: list[str]) -> int:
    """Run the command with the arguments after its name; returns the exit code."""
    parser = Parser(prog="ftrun advise", description=__doc__, allow_abbrev=False)
    parser.add_argument("settings", nargs="*", metavar="key=value", help="settings of the task and the model")
    parser.add_argument(
        "--cut",
        type=float,
        default=0.0,
        help="lead over TF-IDF from which a task counts as close; default: 0",
    )
    parser.add_argument(
        "--text",
        metavar="FILE",
        default=LIKE,
        help="text similar to the pre-training corpus; default: %(default)s",
    )
    parser.add_argument(
        "--harder", metavar="NATS", type=float, default=HARDER,
        help="nats per token by which the task's text may be harder than FILE's; default: %(default)s",
    )  # fmt: skip
    options = parser.parse_intermixed_args(arguments)
    keys_of("advise", options.settings)
    chosen = recommended(options.settings, options.cut, options.text, options.harder)
    words = options.settings
    for each in [chosen.settings, *([other] for other in chosen.others)]:
        print(f"  {command(*words, *each)}")
    print(f"to test the recommendation: {command('compare', *words)}")
    return 0


def auto(arguments: list[str]) -> list[str]:
    """The words of an experiment with strategy=auto replaced by the recommended settings."""
    if any(word in ("-m", "--multirun") for word in arguments):
        raise ConfigError(
            "strategy=auto chooses one strategy and cannot be part of a sweep; name the strategies"
        )
    words = [word for word in arguments if word != "strategy=auto"]
    given = [word for word in words if "=" in word and not word.startswith("-")]
    chosen = recommended(given, 0.0, LIKE, HARDER)
    keys = {word.partition("=")[0] for word in given}
    return [*words, *(word for word in chosen.settings if word.partition("=")[0] not in keys)]


def recommended(words: list[str], cut: float, like: str, harder: float) -> Advice:
    """Measure, print the measurement and the recommendation, and return it."""
    from ftrun.experiments.making import looked
    from ftrun.settings.read import read

    raw = composed(words)
    looked(raw)
    return measured(read(raw), cut, like, harder)


def measured(settings: Settings, cut: float, like: str, harder: float) -> Advice:
    """The same of settings that were read."""
    from ftrun.experiments.advice import advise, measure
    from ftrun.experiments.domain_gap import familiarity, like_its_own
    from ftrun.runs.terminal import say
    from ftrun.tasks.data import TaskData
    from ftrun.tasks.parts.table_rows import texts_of

    data, own = TaskData(settings.task), like_its_own(like)
    if data.spec.auto_class != "AutoModelForSequenceClassification" or data.metric != "accuracy":
        raise ConfigError(
            f"advise: task={settings.task.name} is not text classification, which is all that can be measured"
        )
    data, model = opened(settings)
    found = measure(data, model)
    known = familiarity(settings.model, model, texts_of(data, "train"), own)
    examples = data.dataset("train").examples
    per_class = len(examples) / len({example.target for example in examples})
    chosen = advise(found, known.gap if known else None, per_class, cut, harder)
    say(f"\naccuracy on {counted(found.rows, 'training row')}, always on rows held out from the classifier:")
    say(f"  {found.neighbours:6.1%}  nearest neighbours, on the features of {settings.model.name}")
    say(f"  {found.probe:6.1%}  linear probe, on the same features")
    say(f"  {found.words:6.1%}  TF-IDF, on the words alone")
    say(language(known, settings.model.name))
    closeness, amount = "close to" if chosen.close else "far from", "few" if chosen.few else "many"
    say(
        f"\n{closeness} the pre-training (lead over TF-IDF {100 * found.lead:+.1f} points, threshold"
        f" {100 * cut:+.1f}{f'; {known.gap:+.2f} nats harder, limit {harder:+.2f}' if known else ''}),"
        f" {amount} labels ({per_class:,.0f} per class, threshold 1,000); recommended: {chosen.strategy}"
    )
    return chosen


def opened(settings: Settings) -> tuple[TaskData, Model]:
    """The rows of the task, encoded and told, and the network they are encoded for."""
    from ftrun.experiments.lora.starting import merge_first
    from ftrun.models.load import load
    from ftrun.runs.terminal import say
    from ftrun.settings.seeds import stream
    from ftrun.tasks.data import TaskData

    merge_first(settings.model, settings.device)
    data = TaskData.read(settings.task, settings.seed)
    for note in data.rows.notes:
        say(note)
    model = load(settings.model, data.spec, stream(settings.seed, "init"))
    for line in data.encode(model.tokenizer, "train"):
        say(line)
    return data, model


def language(known: Familiarity | None, name: str) -> str:
    """How hard the texts are to predict for the checkpoint, in one line."""
    if known is None:
        return f"  {name} has no language-modelling head, so the loss on the texts is not measured"
    return (
        f"  {known.here:6.2f}  nats per predicted token of these texts; {known.own:.2f} on text similar to"
        f" the pre-training corpus ({known.like})"
    )
