"""What tasks on running text share: documents from files or rows, their splits, and a tokenizer for them."""

from __future__ import annotations

import hashlib
import json
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ftrun.data.card import repetitions
from ftrun.data.documents import Columns, Stream, carved, digest, documents, files_of
from ftrun.data.hub import pinned
from ftrun.data.leaks import WAYS, Said, leak_notes, of_texts, without_leaks
from ftrun.data.splits import pick
from ftrun.errors import ConfigError, DataError
from ftrun.settings.checks import at_least, one_of
from ftrun.tasks.base import SPLITS, Answer, Example, Task

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

    from ftrun.data.text.packing import Corpus

EMBEDDED = ("docstrings",)  # text that needs no download
FORMS = (
    "a txt, md, jsonl, json, csv, tsv or parquet file (or its .gz), a directory or pattern of these, a"
    " directory of datasets.save_to_disk, or hub:NAME[@REVISION][:CONFIG]:SPLIT"
)
SHOWN = 80  # characters of a document in an example
SAMPLE = 50_000_000  # characters of a stream that a tokenizer is trained on


@dataclass
class CorpusTask(Task):
    """Documents of three splits, `kept`; what is learned from them is the part of the task itself."""

    new_head: ClassVar[bool] = False
    passed_over: ClassVar[tuple[str, ...]] = ("max_length",)  # its blocks are `block` long
    masking: ClassVar[bool] = False  # whether a tokenizer needs a token that stands for a gap

    corpus: str | None
    train: Any
    validation: Any
    test: Any
    documents: str | None
    block: int
    tokenizer: str | None
    vocab: int
    stream: bool
    subset: int | None
    leaks: str

    def __post_init__(self) -> None:
        if self.corpus is not None:
            one_of("task.corpus", self.corpus, EMBEDDED)
            for split in SPLITS:
                if (given := getattr(self, split)) is not None:
                    raise ConfigError(
                        f"task.corpus={self.corpus} has its own splits, and task.{split}={given} is given"
                        " too; set one of them to null"
                    )
                setattr(self, split, f"embedded:{self.corpus}:{split}")
        if self.train is None:
            raise ConfigError(f"task.train is not set: it is {FORMS}; task.corpus=docstrings needs no file")
        if self.documents is not None:
            one_of("task.documents", self.documents, ["file", "line", "paragraph"])
        if self.tokenizer is not None:
            one_of("task.tokenizer", self.tokenizer, ["model", "train"])
        at_least("task.block", self.block, 8)
        at_least("task.vocab", self.vocab, 256)
        at_least("task.subset", self.subset, 1)
        one_of("task.leaks", self.leaks, WAYS)
        if self.stream and self.documents == "file":
            raise ConfigError(
                "task.documents=file holds a file in memory; task.stream=true takes line, paragraph"
            )
        if self.stream and self.leaks != "warn":
            raise ConfigError(
                f"task.leaks={self.leaks} compares all texts, and task.stream=true never has them together"
            )
        self.kept: dict[str, Any] = {}
        self.counts: dict[str, int] = {}  # of the split that is being encoded
        self.encoded: dict[str, Any] = {}

    @property
    @abstractmethod
    def columns(self) -> Columns:
        """Where a table has its texts."""

    @property
    def max_length(self) -> int:
        """Positions that the network must have."""
        return self.block

    def read(self, seed: int) -> list[str]:
        given = {split: getattr(self, split) for split in SPLITS}
        sources = {
            split: files_of(f"task.{split}", value) for split, value in given.items() if value is not None
        }
        missing = [split for split in ("test", "validation") if split not in sources]
        self.notes = self.open(sources, missing) if self.stream else self.load(sources, missing)
        return self.notes

    def open(self, sources: dict[str, list[str]], missing: list[str]) -> list[str]:
        """Streams, of which one document is read yet, and the bytes of files for the fingerprint."""
        how = self.documents or "line"
        whole = hashlib.sha256(f"{how} {self.columns} {missing}".encode())
        for split, names in sources.items():
            sources[split] = [pinned(name) if name.startswith("hub:") else name for name in names]
            for name in sources[split]:
                next(documents([name], self.columns, how, lazily=True, split=split), None)
            whole.update(digest(sources[split], split).encode())
        self.print = whole.hexdigest()
        for split in SPLITS:
            hold = missing if split not in sources or split == "train" else []
            most = self.subset if split == "train" else None
            place = sources.get(split, sources["train"])
            self.kept[split] = Stream(place, self.columns, how, hold, split, most)
        first = [] if self.subset is None else [f"train: the first {self.subset:,} documents (task.subset)"]
        return [f"{split}: one document in a hundred carved from train" for split in missing] + first

    def load(self, sources: dict[str, list[str]], missing: list[str]) -> list[str]:
        notes: list[str] = []
        for split, names in sources.items():
            found = list(documents(names, self.columns, self.documents, lazily=False, split=split))
            self.kept[split] = [document for document in found if document.text.strip()]
            empty = len(found) - len(self.kept[split])
            if not self.kept[split]:
                raise DataError(f"task.{split}={getattr(self, split)} has no text")
            if empty:
                notes.append(f"{split}: {empty:,} of {len(found):,} documents dropped, empty")
        parts, said = carved(self.kept["train"], missing)
        self.kept |= parts
        notes += said
        if self.leaks == "drop":
            places, said = without_leaks(self.said(), "documents")
            self.kept["train"] = pick(self.kept["train"], places)
            notes += said
        if self.subset is not None:
            self.kept["train"] = self.kept["train"][: self.subset]
            notes.append(
                f"train: the first {len(self.kept['train']):,} documents (task.subset={self.subset})"
            )
        found_all = hashlib.sha256()
        for split in SPLITS:
            for document in self.kept[split]:
                found_all.update("\0".join((split, *document)).encode())
        self.print = found_all.hexdigest()
        return notes + leak_notes(self.said(), self.leaks, "documents")

    def said(self) -> Said:
        """What the documents say, prompts included."""
        whole = {split: ["\n".join(filter(None, each)) for each in self.kept[split]] for split in SPLITS}
        return Said(
            of_texts(whole).keys, {split: [text[:SHOWN] for text in part] for split, part in whole.items()}
        )

    def card(self) -> dict[str, Any]:
        """Documents, their tokens and blocks, and what they repeat unless they are a stream."""
        corpora = {split: self.encoded[split].corpus for split in SPLITS}
        return {
            "rows": {split: corpus.documents for split, corpus in corpora.items()},
            "tokens": {split: len(corpus.tokens) for split, corpus in corpora.items()},
            "blocks": {split: len(self.encoded[split]) for split in SPLITS},
            **({} if self.stream else repetitions(self.said(), "documents")),
            "notes": self.notes,
        }

    def read_test(self, file: str) -> list[str]:
        names = files_of("--input", file)
        found = list(documents(names, self.columns, self.documents, lazily=False, split="test"))
        self.kept["test"] = [document for document in found if document.text.strip()]
        self.print = digest(names, "test")
        self.stream = False
        empty = len(found) - len(self.kept["test"])
        return [f"test: {empty:,} of {len(found):,} documents dropped, empty"] if empty else []

    def make_tokenizer(self, given: bool) -> PreTrainedTokenizerBase | None:
        """One trained on the training documents where that is asked for, or the checkpoint brings none."""
        from ftrun.models.tokenizer import train

        if self.tokenizer == "model" or (self.tokenizer is None and given):
            return None
        return train(self.words(), self.vocab, self.masking)

    def words(self) -> Iterator[str]:
        """The training documents' texts, of a stream the first of them."""
        size = 0
        for prompt, text in self.kept["train"]:
            yield from (part for part in (prompt, text) if part)
            size += len(text)
            if self.stream and size > SAMPLE:
                return

    def merged(
        self, answers: Sequence[Answer], examples: Sequence[Example]
    ) -> tuple[Sequence[Answer], Sequence[Example]]:
        """The blocks of a row added up."""
        rows: dict[int, Answer] = {}
        some: dict[int, Example] = {}
        for answer, example in zip(answers, examples, strict=True):
            row = rows.setdefault(some.setdefault(example.row, example).row, dict.fromkeys(answer, 0))
            for name, value in answer.items():
                row[name] += value
        return [*rows.values()], [*some.values()]

    def options(self) -> list[Any]:
        """What a document's tokens depend on beside the text and the tokenizer's vocabulary."""
        return []

    @abstractmethod
    def pieces(
        self, tokenizer: PreTrainedTokenizerBase, documents: Any
    ) -> Iterator[tuple[list[int], list[int]]]:
        """Tokens and flags of each document; what is worth counting is added to `counts`."""

    def packed(
        self, tokenizer: PreTrainedTokenizerBase, split: str, block: int, whole: bool
    ) -> tuple[Corpus, bool]:
        """A split in blocks, its `counts`, and whether its tokens are kept from an earlier run."""
        import numpy

        from ftrun.data.text.memmap import kept, mapped, place_of, written
        from ftrun.data.text.packing import cut, joined
        from ftrun.data.text.token_cache import remembered

        pieces = self.pieces(tokenizer, self.kept[split])
        if self.stream:
            file = place_of(self.key(tokenizer, split))
            known = kept(file)
            if not known:
                written(pieces, file, self.counts)
            tokens, flags, self.counts = mapped(file)
            return cut(tokens, flags, block, whole), known
        columns = [list(texts) for texts in zip(*self.kept[split], strict=True)]
        options = ["packed", *self.options()]
        found, known = remembered(
            tokenizer, columns, options, lambda: [*joined(pieces), [*self.counts.values()]]
        )
        self.counts = dict(zip(self.counts, map(int, found[2]), strict=True))
        return cut(found[0].astype(numpy.uint32), found[1].astype(numpy.uint8), block, whole), known

    def key(self, tokenizer: PreTrainedTokenizerBase, split: str) -> str:
        """Of everything that the tokens of a split depend on."""
        known = tokenizer.backend_tokenizer.to_str() if tokenizer.is_fast else repr(tokenizer)
        options = [split, self.fingerprint(), *self.options(), self.subset]
        return hashlib.sha256(json.dumps([options, known]).encode()).hexdigest()[:24]

    def head(self) -> dict[str, Any]:
        return {}

    def restore(self, config: PretrainedConfig) -> None:
        pass

    def examples(self, split: str) -> Sequence[Example]:
        return self.encoded[split]

    def fingerprint(self) -> str:
        return self.print
