"""Measure how close a task is to a network's pre-training, and recommend a strategy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ftrun.commands._parser import Parser
from ftrun.commands._studies.settings import composed, keys_of
from ftrun.errors import ConfigError, counted
from ftrun.runs.typed import command

if TYPE_CHECKING:
    from ftrun.experiments.advice import Advice, Evidence
    from ftrun.experiments.domain_gap import Familiarity


LIKE = "embedded:docstrings"  # English text that needs no download
CUT = 0.0  # lead over what needs no network, as a share
HARDER = 1.0  # nats per token: e times the perplexity


def main(arguments: list[str]) -> int:
    """Run the command with the arguments after its name; returns the exit code."""
    parser = Parser(prog="ftrun advise", description=__doc__, allow_abbrev=False)
    parser.add_argument("settings", nargs="*", metavar="key=value", help="settings of the task and the model")
    parser.add_argument(
        "--cut",
        type=float,
        default=CUT,
        help="lead over TF-IDF, or over the pixels, from which a task counts as close; default: 0",
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
    chosen = recommended("advise", options.settings, options.cut, options.text, options.harder)
    words = options.settings
    print(f"  {command(*words, *chosen.settings)}")
    for other in chosen.others:
        print(f"next to try: {command(*words, *other)}")
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
    chosen = recommended("strategy=auto", given, CUT, LIKE, HARDER)
    keys = {word.partition("=")[0] for word in given}
    return [*words, *(word for word in chosen.settings if word.partition("=")[0] not in keys)]


def recommended(asked: str, words: list[str], cut: float, like: str, harder: float) -> Advice:
    """Measure, print the measurement and the recommendation, and return it.

    A refusal begins with what was `asked`: the command or the setting.
    """
    from ftrun.experiments.advice import advise, examined
    from ftrun.experiments.making import looked
    from ftrun.reports.rare import COUNTED, hidden
    from ftrun.runs.terminal import say
    from ftrun.settings.read import read

    raw = composed(words)
    looked(raw)
    settings = read(raw)
    found, known = examined(asked, settings, like)
    chosen = advise(found, cut, harder)
    if found is None:
        say(f"the weights of {settings.model.name} are random (model.init=random)")
        say(f"recommended: {chosen.strategy}")
        return chosen
    for line in evidence(found, known, settings.model.name):
        say(line)
    for line in reasons(chosen, found, cut, harder):
        say(line)
    if found.trivial is not None and hidden("accuracy", found.trivial, raw["task"]):
        say(
            f"{found.trivial:.0%} of the rows have one label, so accuracy hardly counts the others; what"
            f" does: {COUNTED}"
        )
    return chosen


def evidence(found: Evidence, known: Familiarity | None, name: str) -> list[str]:
    """What was measured."""
    plain = "logistic regression on the pixels" if found.of_images else "TF-IDF, on the words alone"
    lines = [
        f"\naccuracy on {counted(found.rows, 'training row')}, always on rows held out from the classifier:",
        f"  {found.neighbours:6.1%}  nearest neighbours, on the features of {name}",
        f"  {found.probe:6.1%}  linear probe, on the same features",
        f"  {found.plain:6.1%}  {plain}",
    ]
    if found.trivial is not None:
        lines.append(f"  {found.trivial:6.1%}  always the most frequent label")
    if known is not None:
        return [
            *lines,
            f"  {known.here:6.2f}  nats per predicted token of these texts; {known.own:.2f} on text similar"
            f" to the pre-training corpus ({known.like})",
        ]
    if found.of_images:
        return lines
    return [*lines, f"  {name} has no language-modelling head, so the loss on the texts is not measured"]


def reasons(chosen: Advice, found: Evidence, cut: float, harder: float) -> list[str]:
    """What the measurements come to beside their thresholds, and the recommendation."""
    from ftrun.experiments.advice import FEW

    closeness, amount = "close to" if chosen.close else "far from", "few" if chosen.few else "enough"
    gap = "" if found.gap is None else f"; {found.gap:+.2f} nats harder, limit {harder:+.2f}"
    lead = round(100 * found.lead, 1) + 0.0  # no minus in front of a zero
    rarest = f" on average, {found.rarest:,} of the rarest" if found.unequal else ""
    near = (
        f"{closeness} the pre-training (lead over {'pixels' if found.of_images else 'TF-IDF'}"
        f" {lead:+.1f} points, threshold {100 * cut:+.1f}{gap})"
    )
    if found.blind:
        near = "how close to the pre-training is not told, as none is better than the most frequent label"
    labels = f"{amount} labels ({found.labels_per_class:,.0f} per class{rarest}, threshold {FEW})"
    return [f"\n{near}; {labels}", f"recommended: {chosen.strategy}"]
