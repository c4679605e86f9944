"""Whether an answer is wrong, and what is confused with what, told by what labels and answers look like."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ftrun.data.entity_tags import entities

Line = dict[str, Any]  # of predictions.jsonl
Pair = tuple[str, str]  # what is correct, what was answered
NOTHING = "–"  # in the place of a label that a row does not have


class OneLabel:
    """A label and an answer out of the same set."""

    pairs_title = "Most confused"

    def wrong(self, line: Line) -> bool:
        return bool(line["label"] != line["answer"])

    def sure(self, line: Line) -> float:
        """How sure the model was of its answer; the wrong ones are shown by it, the highest first."""
        return float(line.get("probability") or 0.0)

    def words(self, line: Line) -> Pair:
        """The label and the answer as a person reads them."""
        return str(line["label"]), str(line["answer"])

    def pairs(self, line: Line) -> Iterator[Pair]:
        """What was taken for what in a wrong answer."""
        yield self.words(line)


class SeveralLabels(OneLabel):
    """Any number of labels; each of them is missed or false by itself."""

    pairs_title = "Labels most often missed or false"

    def wrong(self, line: Line) -> bool:
        return set(line["label"]) != set(line["answer"])

    def sure(self, line: Line) -> float:
        """Of the surest of its wrong decisions: the probability of a false label, 1 minus a missed one's."""
        given, found = set(line["label"]), line["probabilities"]
        return max(
            1 - found.get(name, 0.0) if name in given else found.get(name, 0.0)
            for name in given ^ set(line["answer"])
        )

    def words(self, line: Line) -> Pair:
        return ", ".join(line["label"]) or NOTHING, ", ".join(line["answer"]) or NOTHING

    def pairs(self, line: Line) -> Iterator[Pair]:
        given, answered = line["label"], line["answer"]
        yield from ((name, NOTHING) for name in given if name not in answered)
        yield from ((NOTHING, name) for name in answered if name not in given)


class Tags(OneLabel):
    """A tag for every word; what counts are whole entities."""

    pairs_title = "Entities most often missed, false or of another type"

    def wrong(self, line: Line) -> bool:
        return set(entities(line["label"])) != set(entities(line["answer"]))

    def sure(self, line: Line) -> float:
        """Of its surest wrong tag."""
        tags = zip(line["label"], line["answer"], line["probability"], strict=True)
        return max((p or 0.0 for label, answer, p in tags if label != answer), default=0.0)

    def words(self, line: Line) -> Pair:
        """The entities that only the label has, and those that only the answer has."""
        given, answered = set(entities(line["label"])), set(entities(line["answer"]))
        text = str(line.get("text", "")).split(" ")
        known = len(text) == len(line["label"])

        def told(found: set[tuple[str, int, int]]) -> str:
            each = sorted(found, key=lambda entity: entity[1:])
            said = [
                f"{kind} {' '.join(text[first:last]) if known else f'{first + 1}-{last}'}"
                for kind, first, last in each
            ]
            return ", ".join(said) or NOTHING

        return told(given - answered), told(answered - given)

    def pairs(self, line: Line) -> Iterator[Pair]:
        given, answered = (
            {(first, last): kind for kind, first, last in entities(line[side])}
            for side in ("label", "answer")
        )
        for at in sorted(given.keys() | answered.keys()):
            pair = given.get(at, NOTHING), answered.get(at, NOTHING)
            if pair[0] != pair[1]:
                yield pair


class Spans(OneLabel):
    """A text of which several are correct, or none where a question has no answer."""

    pairs_title = ""

    def wrong(self, line: Line) -> bool:
        from ftrun.tasks.metrics.spans import squad_scores

        return squad_scores([line["answer"]], [line["label"]])[0][0] == 0

    def words(self, line: Line) -> Pair:
        return " | ".join(line["label"]) or NOTHING, line["answer"] or NOTHING

    def pairs(self, line: Line) -> Iterator[Pair]:
        yield from ()


class Numbers(OneLabel):
    """Numbers, of which every answer is off by something."""

    pairs_title = ""

    def wrong(self, line: Line) -> bool:
        return True

    def sure(self, line: Line) -> float:
        """How far the answer is off."""
        return abs(float(line["answer"]) - float(line["label"]))

    def words(self, line: Line) -> Pair:
        return f"{line['label']:.4g}", f"{line['answer']:.4g}"

    def pairs(self, line: Line) -> Iterator[Pair]:
        yield from ()


def form_of(line: Line) -> OneLabel:
    """How lines like this one are judged."""
    label = line["label"]
    if isinstance(label, list):
        if not isinstance(line["answer"], list):
            return Spans()
        return SeveralLabels() if "probabilities" in line else Tags()
    return Numbers() if isinstance(label, int | float) else OneLabel()
