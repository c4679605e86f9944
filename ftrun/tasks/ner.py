"""Named entities: a tag for every word of a sentence, scored by whole entities."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ftrun.data.entity_tags import (
    OUTSIDE,
    entities,
    entity_scores,
    parse,
    parsed,
    scheme_of,
    to_iob2,
    written,
)
from ftrun.errors import ConfigError, DataError
from ftrun.tasks.base import SPLITS, Answer, Batch, Example
from ftrun.tasks.parts.windowed import IGNORED, Windowed, labelled, summed_loss

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

    from ftrun.data.conll import Sentence


@dataclass
class Ner(Windowed):
    """A column of words, a column of tags in IOB1, IOB2 or BIOES; inside and in answers they are IOB2.

    A word's first token carries its label (Devlin et al. 2019). Of a sentence longer than a window each word
    is learned and answered once, in the window in which it has most context on its poorer side.
    """

    tokens: Any  # a column's name or number, or null
    tags: Any

    metrics: ClassVar[dict[str, str]] = {
        "f1": "max",
        "precision": "max",
        "recall": "max",
        "accuracy": "max",
        "loss": "min",
    }
    default_metric: ClassVar[str] = "f1"
    auto_class: ClassVar[str] = "AutoModelForTokenClassification"
    reads: ClassVar[str] = "a file of CoNLL columns or jsonl"
    unit: ClassVar[str] = "sentences"
    part: ClassVar[str] = "sentences"
    writes: ClassVar[tuple[str, ...]] = (".jsonl", ".conll")
    samples_at_random: ClassVar[bool] = True  # 1 to 2 points of F1 on WNUT-17: scripts/bench/RESULTS.md

    def __post_init__(self) -> None:
        from ftrun.data.text.windows import SPECIAL

        super().__post_init__()
        for setting, value in (("tokens", self.tokens), ("tags", self.tags)):
            if not isinstance(value, str | int | None) or isinstance(value, bool) or value in (0, ""):
                raise ConfigError(f"task.{setting}={value}: a column's name or its number from 1, or null")
        self.refuse_short(
            self.stride + SPECIAL + 1,
            f"task.stride={self.stride} and {SPECIAL} special tokens and one of its own",
        )
        self.rows: dict[str, list[Sentence]] = {}
        self.given_tags: dict[str, list[list[str]]] = {}  # split → IOB2
        self.names: list[str] = []

    def read(self, seed: int) -> list[str]:
        notes = super().read(seed) + self.understand()
        kinds = sorted(kinds_of(self.given_tags["train"]))
        if not kinds:
            raise DataError(
                f"task.train={self.train}: every word is outside (O), there is no entity to learn"
            )
        self.names = ["O", *(written(prefix, kind) for kind in kinds for prefix in "BI")]
        self.notes = notes + self.unseen()
        return self.notes

    def card(self) -> dict[str, Any]:
        from ftrun.data.card import counted

        kinds = {
            split: [kind for tags in self.given_tags[split] for kind, _, _ in entities(tags)]
            for split in SPLITS
        }
        words = {split: sum(map(len, self.given_tags[split])) for split in SPLITS}
        return super().card() | {"words": words, "entities": counted(kinds)}

    def usable(self, split: str, source: str, notes: list[str]) -> list[Sentence]:
        from ftrun.data.conll import read_sentences

        found = read_sentences(source, self.tokens, self.tags, tagged=True, split=split)
        return self.kept(split, source, found, [row for row in found if row.tokens], notes)

    def text_of(self, row: Sentence) -> str:
        return " ".join(row.tokens)

    def understand(self) -> list[str]:
        """Recognise the scheme over all splits and turn the tags into IOB2; says both and what is illegal."""
        pairs = {split: [parsed(sentence) for sentence in rows] for split, rows in self.rows.items()}
        scheme = scheme_of(tags for split in pairs.values() for tags in split)
        notes = [f"tags are {scheme}" + ("" if scheme == "IOB2" else ", read as IOB2")]
        for split, sequences in pairs.items():
            both = [to_iob2(tags, scheme) for tags in sequences]
            self.given_tags[split] = [tags for tags, _ in both]
            if illegal := sum(count for _, count in both):
                first = next(row for row, (_, count) in zip(self.rows[split], both, strict=True) if count)
                notes.append(
                    f"{split}: {illegal} illegal transitions of {scheme}, the first in {first.place()}"
                )
        return notes

    def unseen(self) -> list[str]:
        """What is said of types that training never sees; their entities count as missed."""
        notes = []
        for split in set(self.given_tags) - {"train"}:
            counted = kinds_of(self.given_tags[split])
            for kind in sorted(set(counted) - kinds_of([self.names]).keys()):
                notes.append(
                    f"warning: type {kind!r} occurs in {split} ({counted[kind]} words) and not in train:"
                    " its entities count as missed"
                )
        return sorted(notes)

    def head(self) -> dict[str, Any]:
        return labelled(self.names)

    def restore(self, config: PretrainedConfig) -> None:
        self.names = [config.id2label[i] for i in range(config.num_labels)]

    def read_test(self, file: str) -> list[str]:
        return super().read_test(file) + self.understand() + self.unseen()

    def encode(self, tokenizer: PreTrainedTokenizerBase, split: str) -> str:
        from ftrun.data.text.word_alignment import worded

        self.pad = tokenizer.pad_token_id
        rows, tags = [row.tokens for row in self.rows[split]], self.given_tags[split]
        label = {name: index for index, name in enumerate(self.names)}
        windows, known = worded(tokenizer, rows, self.max_length, self.stride, tags)
        found = [
            Example(ids, (words, [label.get(tags[row][word], IGNORED) for word in words.numbers]), row)
            for row, ids, words in windows
        ]
        self.encoded[split] = found
        total, more = sum(map(len, rows)), len(found) - len(rows)
        before = ", tokenised before" * known
        longest = max(example.size for example in found)
        said = f"{split}: {len(rows):,} sentences{before}, {total:,} words, up to {longest} tokens"
        said += f", {more:,} windows more for long ones" if more else ", none too long"
        unread = total - sum(len(example.target[0].numbers) for example in found)
        return said + (f", {unread:,} words without a token are O" if unread else "")

    def input_rows(self, file: str) -> list[dict[str, Any]]:
        from ftrun.data.conll import read_sentences
        from ftrun.data.sources import sources_of

        parts = [read_sentences(one, self.tokens, self.tags, tagged=False) for one in sources_of(file)]
        return [sentence.columns for part in parts for sentence in part]

    def questions(
        self, tokenizer: PreTrainedTokenizerBase, rows: list[dict[str, Any]], file: str
    ) -> list[Example]:
        from ftrun.data.conll import texts
        from ftrun.data.text.word_alignment import worded

        self.pad = tokenizer.pad_token_id
        column = self.tokens if isinstance(self.tokens, str) else "tokens"
        sentences = [texts(row.get(column), f"task.tokens={column}: {file}") for row in rows]
        found, _ = worded(tokenizer, sentences, self.max_length, self.stride)
        return [Example(ids, (words, []), row) for row, ids, words in found]

    def write(self, path: Path, rows: list[dict[str, Any]]) -> None:
        from ftrun.data.conll import write_columns

        if path.suffix.lower() == ".conll":
            write_columns(path, [{**row, "probability": None} for row in rows], "answer")
        else:
            super().write(path, rows)

    def collate(self, examples: Sequence[Example]) -> Batch:
        import torch

        from ftrun.data.batching import pad

        ids, mask = pad([example.inputs for example in examples], self.pad)
        labels = torch.full_like(ids, IGNORED)
        for row, example in enumerate(examples):
            words, own = example.target
            if own:
                labels[row, words.at] = torch.tensor(own)
        inputs = {"input_ids": ids, "attention_mask": mask}
        return {"inputs": inputs, "labels": labels, "words": [example.target[0] for example in examples]}

    def target_count(self, batch: Batch) -> int:
        return int((batch["labels"] != IGNORED).sum())

    def loss(self, outputs: Tensor, batch: Batch) -> tuple[Tensor, int]:
        """Cross-entropy summed over the labelled words; outputs are (batch, length, labels)."""
        return summed_loss(outputs, batch["labels"]), self.target_count(batch)

    def answers(self, outputs: Tensor, batch: Batch) -> list[Answer]:
        best, labels = outputs.detach().float().softmax(-1).max(-1)
        best, labels = best.cpu(), labels.cpu()
        return [
            {
                "words": words.numbers,
                "answer": [self.names[index] for index in labels[row, words.at].tolist()],
                "probability": best[row, words.at].tolist(),
            }
            for row, words in enumerate(batch["words"])
        ]

    def merged(
        self, answers: Sequence[Answer], examples: Sequence[Example]
    ) -> tuple[Sequence[Answer], Sequence[Example]]:
        """The tags of all words of each sentence; a word without a token is O, without a probability."""
        whole: dict[int, tuple[Answer, Example]] = {}
        for answer, example in zip(answers, examples, strict=True):
            count = example.target[0].count
            empty: Answer = {"answer": ["O"] * count, "probability": [None] * count}
            found, _ = whole.setdefault(example.row, (empty, example))
            for place, word in enumerate(answer["words"]):
                for column in self.answer_columns:
                    found[column][word] = answer[column][place]
        return [answer for answer, _ in whole.values()], [example for _, example in whole.values()]

    def given(self, example: Example) -> list[str]:
        return example.target[0].tags

    def score(self, answers: Sequence[Answer], examples: Sequence[Example]) -> dict[str, float]:
        given = [self.given(example) for example in examples]
        answered = [answer["answer"] for answer in answers]
        by_type = entity_scores(given, answered)
        overall = by_type.pop("")
        pairs = [
            pair for one, other in zip(given, answered, strict=True) for pair in zip(one, other, strict=True)
        ]
        return {
            **{name: overall[name] for name in ("f1", "precision", "recall")},
            "accuracy": sum(one == other for one, other in pairs) / max(1, len(pairs)),
            **{f"f1_{kind}": found["f1"] for kind, found in by_type.items() if kind},
        }

    def reports(self, answers: Sequence[Answer], examples: Sequence[Example]) -> dict[str, Any]:
        """entities.json: precision, recall, F1 and number of the test split's entities of each type."""
        found = entity_scores([self.given(e) for e in examples], [answer["answer"] for answer in answers])
        return {"entities.json": {kind or "all": scores for kind, scores in found.items()}}

    def fingerprint(self) -> str:
        content = [[[row.tokens, row.tags] for row in self.rows.get(split, [])] for split in SPLITS]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def kinds_of(sequences: Sequence[Sequence[str]]) -> Counter[str]:
    """How many words each type of entity has."""
    pairs = (parse(tag) or OUTSIDE for tags in sequences for tag in tags)
    return Counter(kind for prefix, kind in pairs if prefix != "O")
