"""Signs that a run has learned nothing, or less than its training rows teach: it underfits.

Nothing is asked of the kind of task: the signs are in the losses, the direction of the metric, the answers
and the data card.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any

from ftrun.data.baselines import ALWAYS, NAMES, NOTHING, SUBJECTS, TAGS, WORDS
from ftrun.data.entity_tags import parse
from ftrun.reports.diagnosing.evidence import LEAST, SEEN, chance, smooth
from ftrun.reports.numbers import score
from ftrun.tasks.metrics.rescoring import scored

if TYPE_CHECKING:
    from ftrun.reports.diagnosing.evidence import Evidence

UNRELATED = 0.1  # correlation of answers and labels, at most
BEGUN = 0.02  # of the trivial loss: a fall that is more than a constant answer fitted to 512 rows can gain
FELL = 0.1  # of the first training loss, where the trivial one is unknown: random weights begin above it
BARELY = 0.1  # of the trivial loss, at most
EVALUATED = 4  # evaluations that make a curve; one of fewer begins with the trivial loss at step 0
FEWEST = 36  # rows: a change of one validation row spreads about 3 times as wide as their mean, and 3/√36 = ½
PACE = 0.5  # the second half's pace, at least; an exponential curve then has a tenth of its fall to come
ROOM = 0.05  # between the training score and 1, at least
OPEN = 0.5  # training loss by validation loss, at least; below it the rows are being memorised
BELOW = 0.05  # below the score of a baseline, at least
HARDLY = 0.05  # of the entities or spans of training rows, at most
SUPPORT = 10  # rows of a label that is never predicted, at least
COMMON = 0.5  # of the share that it had if all labels were equally frequent, at least


def learned(found: Evidence) -> str | None:
    """How far the training loss fell below that of a constant answer, in words; None where it did not."""
    trivial, now = found.trivial_loss, found.score("train", "loss")
    if trivial is not None and now is not None:
        return _losses(now, trivial) if now < (1 - BEGUN) * trivial else None
    losses = [line["train_loss"] for line in found.lines if line.get("train_loss") is not None]
    if len(losses) < 2 or found.solved:
        return None
    last = smooth(losses)[-1]
    return f"training loss fell from {losses[0]:.3f} to {last:.3f}" if last < (1 - FELL) * losses[0] else None


def _losses(now: float, trivial: float) -> str:
    return f"training loss ended at {now:.3f}, where the best constant answer has {trivial:.3f}"


def trivial(found: Evidence) -> str | None:
    """The evidence that the answers are unrelated to the labels, on test and on training rows."""
    if found.classes:
        return _trivial_label(found)
    if found.numbers:
        return _trivial_number(found)
    return _nothing_answered(found)


def _trivial_number(found: Evidence) -> str | None:
    """No correlation beyond chance, neither on test nor on training rows, of which one must be FEWEST."""
    related = scored("pearson", found.labels, found.answers)
    assert related is not None
    known = {"test": (related.score, len(found.labels))}
    if (seen := found.score("train", "pearson")) is not None:
        known["training"] = seen, min(SEEN, found.rows.get("train", SEEN))
    if any(abs(value) >= max(UNRELATED, 2 / math.sqrt(rows)) for value, rows in known.values()):
        return None
    told = [f"the correlation of answers and labels on {split} rows is {value:.2f}"
            for split, (value, rows) in known.items() if rows >= FEWEST]  # fmt: skip
    return told[0] if told else None


def _trivial_label(found: Evidence) -> str | None:
    labels, answers, count = found.labels, found.answers, len(found.labels)
    if count < LEAST:
        return None
    often = Counter(labels).most_common(1)[0][1] / count
    right = sum(label == answer for label, answer in zip(labels, answers, strict=True)) / count
    if often == 1 or right > often + 2 * chance(often, count):
        return None
    name = "matthews_correlation"
    related = scored(name, labels, answers)
    if related is None or max(abs(related.score), abs(found.score("train", name) or 0.0)) >= UNRELATED:
        return None
    return (
        f"test accuracy is {score(right, 'accuracy')}, and always answering the most frequent label gives"
        f" {score(often, 'accuracy')}"
    )


def _nothing_answered(found: Evidence) -> str | None:
    """Of tasks whose answers may be empty: sets of labels, entities, spans."""
    full = sum(bool(_content(label)) for label in found.labels)
    if full < LEAST or any(map(_content, found.answers)):
        return None
    if "entities" in found.card:
        return f"no entity is predicted in {len(found.labels):,} test rows"
    return f"the answers to all {len(found.labels):,} test rows are empty"


def _content(answer: Any) -> list[str]:
    """Labels, types of entities, or a text: what an answer has that is not empty."""
    values = answer if isinstance(answer, list) else [answer]
    return [value for value in values if value not in ("", "O", None)]


def improving(found: Evidence) -> str | None:
    """The sign that validation loss was falling as fast at the end as before, for its learning rate."""
    losses, steps = ([line[key] for line in found.evaluations] for key in ("eval_loss", "step"))
    even = smooth(losses)
    if len(losses) < EVALUATED and found.trivial_loss is not None:
        losses, steps = [found.trivial_loss, *losses], [0, *steps]
        even = losses
    if len(losses) < 3 or found.rows.get("validation", 0) < FEWEST:
        return None
    half = next(place for place, step in enumerate(steps) if step >= steps[-1] / 2)
    late = even[half:]
    if len(late) < 2 or half == 0 or any(b >= a for a, b in zip(late, late[1:], strict=False)):
        return None
    spent = [_rates(found.lines, step) for step in steps]
    whole, part = even[0] - even[-1], even[half] - even[-1]
    pace = PACE * whole / (spent[-1] - spent[0])  # of the fall for the learning rates spent
    seen, held, top = found.score("train", "loss"), found.score("eval", "loss"), found.score("train")
    memorised = seen is not None and held is not None and seen < OPEN * held
    full = top is None or (found.is_share and top > 1 - ROOM)
    if part < pace * (spent[-1] - spent[half]) or memorised or full:
        return None
    return (
        f"validation loss was still falling at the end ({losses[half]:.3f} to {losses[-1]:.3f} in the second"
        f" half), and {found.metric} is {score(top, found.metric)} on training rows"
    )


def _rates(lines: list[dict[str, Any]], until: int) -> float:
    """The sum of the learning rates of all steps up to one; of each line's for the steps since the last."""
    total, before = 0.0, 0
    for line in lines:
        if "learning_rate" in line and line["step"] <= until:
            total, before = total + line["learning_rate"] * (line["step"] - before), line["step"]
    return total or float(until)


def barely(found: Evidence) -> str | None:
    """The sign that the training rows cost little less than a constant answer to all of them."""
    trivial, now = found.trivial_loss, found.score("train", "loss")
    if trivial is None or now is None or now < (1 - BARELY) * trivial:
        return None
    return _losses(now, trivial)


def below_baseline(found: Evidence) -> str | None:
    """The sign that rows seen in training are answered worse than a baseline answers unseen ones.

    Beyond chance where the baseline was fitted too; no better than a constant answer is enough; and of
    entities and spans, of which a constant may find none, so is hardly any.
    """
    top, metric = found.score("train"), found.metric
    if top is None or not found.is_share or len(found.labels) < LEAST:
        return None
    said, seen = (
        f"{metric} is {score(top, metric)} on training rows",
        min(SEEN, found.rows.get("train", SEEN)),
    )
    card = found.card.get("baselines", {})
    known = {name: card[name][f"test_{metric}"] for name in NAMES if f"test_{metric}" in card.get(name, {})}
    for name in (WORDS, TAGS):
        theirs = known.get(name, 0.0)
        noise = math.hypot(chance(top, seen), chance(theirs, len(found.labels)))
        if theirs - top >= max(BELOW, 2 * noise):
            return f"{said}, and {SUBJECTS[name]} has {score(theirs, metric)} on test rows"
    if NOTHING in known and top <= known[NOTHING]:
        return f"{said}, and {ALWAYS[NOTHING]} has {score(known[NOTHING], metric)} on test rows"
    return said if top < HARDLY and not found.classes else None


def never(found: Evidence) -> str | None:
    """The sign that a frequent label, or type of entity, is never predicted on the test rows."""
    whole = _nothing_answered(found)
    sets = all(isinstance(each, list) for each in [*found.labels, *found.answers])
    if whole or not (found.classes or sets):
        return whole
    given, answered = (_counted(each, found) for each in (found.labels, found.answers))
    fewest = max(SUPPORT, COMMON * given.total() / max(1, len(given)))
    missed = [name for name, count in given.most_common() if count >= fewest and not answered[name]]
    if not missed:
        return None
    names = ", ".join(
        f"{name} ({given[name]:,} of {given.total():,} in the test rows)" for name in missed[:3]
    )
    more = f" and {len(missed) - 3} more" if len(missed) > 3 else ""
    return f"never predicts {names}{more}"


def _counted(answers: list[Any], found: Evidence) -> Counter[str]:
    """How often each name is among the answers."""
    if not found.classes:
        return Counter(name for answer in answers for name in _names(answer, found))
    counts: Counter[str] = Counter()
    for answer, count in Counter(answers).items():
        counts.update(dict.fromkeys(_names(answer, found), count))
    return counts


def _names(answer: Any, found: Evidence) -> list[str]:
    """The labels of a row; of tags the types of the entities that begin there."""
    names = _content(answer)
    if "entities" not in found.card:
        return names
    pairs = [parse(name) for name in names]
    return [pair[1] for pair in pairs if pair is not None and pair[0] == "B"]
