"""Measure how close a task is to a network's pre-training, and say which strategy to begin with."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, NoReturn

from ftrun.errors import ConfigError

if TYPE_CHECKING:
    from ftrun.experiments.advice import Advice
    from ftrun.experiments.domain_gap import Familiarity


LIKE = "embedded:docstrings"  # English that every machine has
HARDER = 1.0  # a token is then as surprising as one of e times as many


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as the rest of ftrun does."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"advise: {message}")


def main(arguments: list[str]) -> int:
    """Entry point; `arguments` is what follows the command's name."""
    parser = Parser(prog="ftrun advise", description=__doc__, allow_abbrev=False)
    parser.add_argument("settings", nargs="*", metavar="key=value", help="task and model")
    parser.add_argument(
        "--cut", type=float, default=0.0, help="lead over TF-IDF from which a task is close; default: 0"
    )
    parser.add_argument(
        "--text", metavar="FILE", default=LIKE, help="text like the checkpoint's own; default: %(default)s"
    )
    parser.add_argument(
        "--harder", type=float, default=HARDER,
        help="nats per token by which the task's text may be harder than that; default: %(default)s",
    )  # fmt: skip
    options = parser.parse_intermixed_args(arguments)
    for word in options.settings:
        if "=" not in word:
            raise ConfigError(f"advise: '{word}' is not key=value")

    chosen = recommended(options.settings, options.cut, options.text, options.harder)
    words = options.settings
    for each in [chosen.settings, *([other] for other in chosen.others)]:
        print(" ".join(["  ftrun", *words, *each]))
    print(" ".join(["whether the advice is right: ftrun compare", *words]))
    return 0


def auto(arguments: list[str]) -> list[str]:
    """The words of an experiment with strategy=auto replaced by what is recommended."""
    if any(word in ("-m", "--multirun") for word in arguments):
        raise ConfigError("strategy=auto is one experiment; in a sweep the strategies are named")
    words = [word for word in arguments if word != "strategy=auto"]
    said = [word for word in words if "=" in word and not word.startswith("-")]
    chosen = recommended(said, 0.0, LIKE, HARDER)
    keys = {word.partition("=")[0] for word in said}
    return [*words, *(word for word in chosen.settings if word.partition("=")[0] not in keys)]


def recommended(words: list[str], cut: float, like: str, harder: float) -> Advice:
    """The measurement and the row of the table, printed."""
    from ftrun.commands.compare import settled
    from ftrun.experiments.advice import advise, measure, texts_of
    from ftrun.experiments.domain_gap import familiarity, like_its_own
    from ftrun.models.load import load
    from ftrun.runs.terminal import say
    from ftrun.settings.schema import read
    from ftrun.settings.seeds import stream

    settings = read(settled(words))
    task = settings.task
    if task.auto_class != "AutoModelForSequenceClassification" or task.default_metric != "accuracy":
        raise ConfigError(
            f"advise: task={task.name} is no classification of texts, which is what it measures"
        )
    own = like_its_own(like)
    for note in task.read(settings.seed):
        say(note)
    model = load(settings.model, task, stream(settings.seed, "init"))
    say(task.encode(model.tokenizer, "train"))
    found = measure(task, model)
    known = familiarity(settings.model, model, texts_of(task), own)
    examples = task.examples("train")
    per_class = len(examples) / len({example.target for example in examples})
    chosen = advise(found, known.gap if known else None, per_class, cut, harder)
    say(f"\non {found.rows:,} training rows, never on one that the classifier has seen:")
    say(f"  {found.neighbours:6.1%}  nearest neighbours of the features of {settings.model.name}")
    say(f"  {found.probe:6.1%}  linear probe of the same features")
    say(f"  {found.words:6.1%}  words alone (TF-IDF)")
    say(language(known, settings.model.name))
    closeness, amount = "close to" if chosen.close else "far from", "few" if chosen.few else "many"
    say(
        f"\n{closeness} its pre-training (lead over the words {100 * found.lead:+.1f}, cut {100 * cut:+.1f}"
        f"{f'; harder by {known.gap:+.2f}, at most {harder:+.2f}' if known else ''}), "
        f"{amount} labels ({per_class:,.0f} per class, the line is at 1,000): {chosen.strategy}"
    )
    return chosen


def language(known: Familiarity | None, name: str) -> str:
    """How hard the words are for the checkpoint, in a line."""
    if known is None:
        return f"  {name} has no head for guessing words, so how hard the texts are for it is not measured"
    return (
        f"  {known.here:6.2f}  nats per guessed token of these texts; {known.own:.2f} for text like its own "
        f"({known.like})"
    )
