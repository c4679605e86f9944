"""Named entities: a tag for every word of a sentence, scored by whole entities."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from ftrun.data.entity_tags import entities, kinds_of, parsed, scheme_of, to_iob2, unseen, written
from ftrun.errors import ConfigError, DataError, counted
from ftrun.settings.habits import Habits
from ftrun.tasks.dataset import SPLITS, Batch, Dataset, Draw, Example
from ftrun.tasks.losses import IGNORED
from ftrun.tasks.parts.labelled import names_in
from ftrun.tasks.parts.tags import TagScorer, labelled_words, tag_loss
from ftrun.tasks.parts.windowed import Windowed, WindowRows, refuse_full

if TYPE_CHECKING:
    from pathlib import Path

    from ftrun.data.conll import Sentence
    from ftrun.models.spec import Spec
    from ftrun.tasks.data import TaskData
    from ftrun.tasks.objective import Objective


@dataclass
class Sentences(WindowRows):
    """Sentences, and the tags of their words as IOB2."""

    tags: dict[str, list[list[str]]] = field(default_factory=dict)

    def write(self, path: Path, rows: list[dict[str, Any]]) -> None:
        from ftrun.data.conll import write_columns

        if path.suffix.lower() == ".conll":
            write_columns(path, [{**row, "probability": None} for row in rows], "answer")
        else:
            super().write(path, rows)


@dataclass
class Ner(Windowed):
    """A column of words, a column of tags in IOB1, IOB2 or BIOES; inside and in answers they are IOB2.

    A word's first token carries its label (Devlin et al. 2019). Of a sentence longer than a window each word
    is learned and answered once, in the window in which it has most context on its poorer side.
    """

    tokens: Any  # a column's name or number, or null
    tags: Any

    reads: ClassVar[str] = "a file of CoNLL columns or jsonl"
    rows_are: ClassVar[str] = "sentences"
    part: ClassVar[str] = "sentences"
    shared: ClassVar[int] = 4
    endings: ClassVar[tuple[str, ...]] = (".jsonl", ".conll")
    habits: ClassVar[Habits] = Habits(
        order="random",  # 1 to 2 points of F1 on WNUT-17: scripts/bench/RESULTS.md
        steps=800,
        epochs=(5, 100),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for setting, value in (("tokens", self.tokens), ("tags", self.tags)):
            if not isinstance(value, str | int | None) or isinstance(value, bool) or value in (0, ""):
                raise ConfigError(f"task.{setting}={value}: a column's name or its number from 1, or null")
        refuse_full(self.max_length, stride=(self.overlap, self.stride))

    def load(self, seed: int) -> Sentences:
        rows, notes = self.read_splits(seed)
        tags, more = self.read_tags(rows)
        if not kinds_of(tags["train"]):
            raise DataError(f"task.train={self.train}: every tag is O, there are no entities to learn")
        notes = [*notes, *more, *unseen(tags, kinds_of(tags["train"]))]
        slices = self.sliced(rows)
        return Sentences(rows, notes, fingerprint(rows), task=self, slices=slices, tags=tags)

    def load_file(self, file: str, answered: bool, spec: Spec) -> Sentences:
        if not answered:
            return self.load_unanswered(file)
        rows, notes = self.read_file(file)
        tags, more = self.read_tags(rows)
        notes = [*notes, *more, *unseen(tags, kinds_of([list(spec.labels or ())]))]
        return Sentences(rows, notes, fingerprint(rows), task=self, tags=tags)

    def load_unanswered(self, file: str) -> Sentences:
        from ftrun.data.conll import read_sentences
        from ftrun.data.sources import sources_of

        parts = [read_sentences(one, self.tokens, self.tags, tagged=False) for one in sources_of(file)]
        rows = [sentence.row for part in parts for sentence in part]
        return Sentences({"test": rows}, inputs=rows, task=self, answered=False, source=file)

    def describe(self, rows: Any) -> dict[str, Any]:
        from ftrun.data.card import frequencies

        kinds = {
            split: [kind for tags in rows.tags[split] for kind, _, _ in entities(tags)] for split in SPLITS
        }
        words = {split: sum(map(len, rows.tags[split])) for split in SPLITS}
        return {"words": words, "entities": frequencies(kinds)}

    def untrained(self, rows: Any, split: str) -> dict[str, list[tuple[Any, Any]]]:
        from ftrun.data.baselines import TAGS, UsualTags

        usual = UsualTags([row.tokens for row in rows.splits["train"]], rows.tags["train"])
        answers = [usual.tags(row.tokens) for row in rows.splits[split]]
        return {TAGS: [*zip(rows.tags[split], answers, strict=True)]}

    def usable(self, split: str, source: str, notes: list[str]) -> list[Sentence]:
        from ftrun.data.conll import read_sentences

        found = read_sentences(source, self.tokens, self.tags, tagged=True, split=split)
        return self.kept(split, source, found, [row for row in found if row.tokens], notes)

    def text_of(self, row: Sentence) -> str:
        return " ".join(row.tokens)

    def read_tags(self, rows: dict[str, list[Sentence]]) -> tuple[dict[str, list[list[str]]], list[str]]:
        """The tags as IOB2, their scheme being that of all splits; and notes on it and on what is illegal."""
        pairs = {split: [parsed(sentence) for sentence in rows] for split, rows in rows.items()}
        scheme = scheme_of(tags for split in pairs.values() for tags in split)
        tags_by_split: dict[str, list[list[str]]] = {}
        notes = [f"tags are {scheme}" + ("" if scheme == "IOB2" else ", read as IOB2")]
        for split, sequences in pairs.items():
            both = [to_iob2(tags, scheme) for tags in sequences]
            tags_by_split[split] = [tags for tags, _ in both]
            if illegal := sum(count for _, count in both):
                first = next(row for row, (_, count) in zip(rows[split], both, strict=True) if count)
                notes.append(
                    f"{split}: {counted(illegal, 'illegal transition')} of {scheme},"
                    f" the first in {first.where()}"
                )
        return tags_by_split, notes

    def spec(self, source: Any) -> Spec:
        if isinstance(source, Sentences):
            kinds = sorted(kinds_of(source.tags["train"]))
            names = ("O", *(written(prefix, kind) for kind in kinds for prefix in "BI"))
        else:
            names = () if source is None else names_in(source)
        return self.spec_of("AutoModelForTokenClassification", names)

    def encode(self, data: TaskData, split: str) -> Words:
        from ftrun.data.text.word_alignment import worded

        rows = data.rows
        if not rows.answered:
            return self.encode_unanswered(data)
        sentences, tags = [row.tokens for row in rows.splits[split]], rows.tags[split]
        places = [row.place for row in rows.splits[split]]
        label = {name: index for index, name in enumerate(data.spec.labels or ())}
        windows, known = worded(data.processor, sentences, self.max_length, self.overlap, tags)
        found = [
            Example(
                ids,
                (words, [label.get(tags[row][word], IGNORED) for word in words.numbers]),
                row,
                place=places[row],
                whole=words.tokens,
            )
            for row, ids, words in windows
        ]
        return Words(found, summary_of(split, sentences, found, known), data.processor.pad_token_id)

    def encode_unanswered(self, data: TaskData) -> Words:
        from ftrun.data.conll import texts
        from ftrun.data.text.word_alignment import worded

        rows = data.rows
        column = self.tokens if isinstance(self.tokens, str) else "tokens"
        sentences = [texts(row.get(column), f"task.tokens={column}: {rows.source}") for row in rows.inputs]
        found, _ = worded(data.processor, sentences, self.max_length, self.overlap)
        return Words(
            [Example(ids, (words, []), row) for row, ids, words in found], "", data.processor.pad_token_id
        )

    def objective(self, data: TaskData) -> Objective:
        from ftrun.tasks.objective import Objective

        return Objective(tag_loss, labelled_words)

    def scorer(self, data: TaskData) -> TagScorer:
        return TagScorer(data.spec.labels or ())


class Words(Dataset):
    """Windows of sentences; an example's target is its words and their labels."""

    def __init__(self, examples: list[Example], summary: str, padding: int) -> None:
        super().__init__(examples, summary)
        self.padding = padding

    def collate(self, examples: Sequence[Example], draw: Draw | None = None) -> Batch:
        import torch

        from ftrun.data.batching import pad

        ids, mask = pad([example.inputs for example in examples], self.padding, self._width(examples))
        labels = torch.full_like(ids, IGNORED)
        places = labels.numpy()
        for row, example in enumerate(examples):
            words, own = example.target
            if own:
                places[row, words.at] = own
        inputs = {"input_ids": ids, "attention_mask": mask}
        return {"inputs": inputs, "labels": labels, "words": [example.target[0] for example in examples]}


def summary_of(split: str, sentences: list[list[str]], found: list[Example], known: bool) -> str:
    """How many sentences and words there are, and how many more windows long ones need."""
    total, more = sum(map(len, sentences)), len(found) - len(sentences)
    cached = ", tokens from the cache" * known
    longest = max(example.size for example in found)
    line = f"{split}: {counted(len(sentences), 'sentence')}{cached}, {counted(total, 'word')}"
    line += f", up to {longest} tokens"
    line += f", {counted(more, 'more window')} for long sentences" if more else ", none too long"
    unread = total - sum(len(example.target[0].numbers) for example in found)
    return line + (f", {counted(unread, 'word')} without a token tagged O" if unread else "")


def fingerprint(rows: dict[str, list[Sentence]]) -> str:
    """A hash of all words and tags."""
    content = [[[row.tokens, row.tags] for row in rows.get(split, [])] for split in SPLITS]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()
