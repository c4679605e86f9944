"""What tasks on running text share: documents from files or rows, their splits, and their tokens."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ftrun.data.documents import Columns, carved, digest, documents, files_of
from ftrun.data.leaks import WAYS, leak_notes, without_leaks
from ftrun.data.splits import pick
from ftrun.errors import ConfigError, DataError, counted
from ftrun.models.spec import Spec, TextInput, TokenizerTexts
from ftrun.settings.checks import at_least, one_of
from ftrun.settings.habits import Habits
from ftrun.tasks.base import Task
from ftrun.tasks.dataset import SPLITS
from ftrun.tasks.parts.documents import Documents, texts_by_split
from ftrun.tasks.parts.streamed_corpus import of_first, opened, packed

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from ftrun.data.text.packing import Corpus
    from ftrun.settings.schema import Settings
    from ftrun.tasks.data import TaskData

EMBEDDED = ("docstrings",)  # text that needs no download
FORMS = (
    "a txt, md, jsonl, json, csv, tsv or parquet file (or its .gz), a directory or pattern of these, a"
    " directory of datasets.save_to_disk, or hub:NAME[@REVISION][:CONFIG]:SPLIT"
)
SAMPLE = 50_000_000  # characters of a stream that a tokenizer is trained on

Counts = dict[str, int]


@dataclass
class CorpusTask(Task):
    """Documents of three splits; what is learned from them is the part of the task itself."""

    habits: ClassVar[Habits] = Habits(steps=500, epochs=(1, 40), random_steps=2000)

    name: str
    corpus: str | None
    train: str | list[str] | None  # a source or a list of them
    validation: str | list[str] | None
    test: str | list[str] | None
    documents: str | None
    block: int
    tokenizer: str | None
    vocab: int
    stream: bool
    subset: int | None
    leaks: str

    ignored_settings: ClassVar[tuple[str, ...]] = ("max_length",)  # its blocks are `block` long
    masking: ClassVar[bool] = False  # whether a tokenizer needs a mask token

    def __post_init__(self) -> None:
        if self.corpus is not None:
            one_of("task.corpus", self.corpus, EMBEDDED)
            for split in SPLITS:
                if (given := getattr(self, split)) is not None:
                    raise ConfigError(
                        f"task.corpus={self.corpus} has its own splits, but task.{split}={given} is set too;"
                        " set only one of them"
                    )
                setattr(self, split, f"embedded:{self.corpus}:{split}")
        if not self.train:
            raise ConfigError(
                f"task.train is not set; it takes {FORMS}; task.corpus=docstrings needs no file"
            )
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
                "task.documents=file keeps a whole file in memory;"
                " possible with task.stream=true: line, paragraph"
            )
        if self.stream and self.leaks != "warn":
            raise ConfigError(
                f"task.leaks={self.leaks} compares all texts, which task.stream=true does not keep in memory"
            )

    @property
    @abstractmethod
    def columns(self) -> Columns:
        """Where a table has its texts."""

    @property
    @abstractmethod
    def auto_class(self) -> str:
        """The transformers class that brings the network and its head."""

    def check(self, settings: Settings) -> None:
        super().check(settings)
        if self.tokenizer == "train" and settings.model.init != "random":
            raise ConfigError(
                "task.tokenizer=train needs random weights, because the checkpoint's weights belong to its"
                " own tokenizer; possible: model.init=random"
            )

    def spec(self, source: Any) -> Spec:
        wanted = {"model": False, "train": True, None: None}[self.tokenizer]
        rows = source if isinstance(source, Documents) else Documents({"train": []})
        texts = TokenizerTexts(lambda: self.words(rows), self.vocab, self.masking, wanted)
        inputs = TextInput(self.block, "task.block")
        return Spec(self.name, self.auto_class, inputs, new_head=False, labels=(), tokenizer=texts)

    def load(self, seed: int) -> Documents:
        given = {split: getattr(self, split) for split in SPLITS}
        sources = {
            split: files_of(f"task.{split}", value) for split, value in given.items() if value is not None
        }
        missing = [split for split in ("test", "validation") if split not in sources]
        if self.stream:
            return opened(self, sources, missing)
        return self.gather(sources, missing)

    def gather(self, sources: dict[str, list[str]], missing: list[str]) -> Documents:
        notes: list[str] = []
        kept: dict[str, Any] = {}
        for split, names in sources.items():
            found = list(documents(names, self.columns, self.documents, split=split))
            kept[split] = [document for document in found if document.text.strip()]
            empty = len(found) - len(kept[split])
            if not kept[split]:
                raise DataError(f"task.{split}={getattr(self, split)} has no text")
            if empty:
                notes.append(f"{split}: {empty:,} of {len(found):,} documents dropped as empty")
        parts, more = carved(kept["train"], missing)
        kept |= parts
        notes += more
        if self.leaks == "drop":
            places, more = without_leaks(texts_by_split(kept), "documents")
            kept["train"] = pick(kept["train"], places)
            notes += more
        if self.subset is not None:
            kept["train"] = kept["train"][: self.subset]
            notes.append(f"train: the {of_first(len(kept['train']))} (task.subset={self.subset})")
        found_all = hashlib.sha256()
        for split in SPLITS:
            for document in kept[split]:
                found_all.update("\0".join((split, *document)).encode())
        notes += leak_notes(texts_by_split(kept), self.leaks, "documents")
        return Documents(kept, notes, found_all.hexdigest(), task=self)

    def load_file(self, file: str, answered: bool, spec: Spec) -> Documents:
        from ftrun.data.rows import read_rows

        if not answered:
            rows = read_rows(file)
            return Documents({"test": rows}, inputs=rows, task=self, answered=False, source=file)
        names = files_of("--input", file)
        found = list(documents(names, self.columns, self.documents, split="test"))
        kept = [document for document in found if document.text.strip()]
        empty = len(found) - len(kept)
        notes = [f"test: {empty:,} of {len(found):,} documents dropped as empty"] if empty else []
        return Documents({"test": kept}, notes, digest(names, "test"), task=self)

    def words(self, rows: Documents) -> Iterator[str]:
        """The training documents' texts, of a stream the first of them."""
        size = 0
        for prompt, text in rows.splits["train"]:
            yield from (part for part in (prompt, text) if part)
            size += len(text)
            if self.stream and size > SAMPLE:
                return

    @abstractmethod
    def tokens(
        self, tokenizer: PreTrainedTokenizerBase, documents: Any, counts: Counts
    ) -> Iterator[tuple[list[int], list[int]]]:
        """Tokens and flags of each document; what is worth counting is added to `counts`."""

    def options(self, tokenizer: PreTrainedTokenizerBase) -> list[Any]:
        """What a document's tokens depend on beside the text and the tokenizer's vocabulary."""
        return []

    def packed(
        self, data: TaskData, split: str, block: int, whole: bool, counts: Counts
    ) -> tuple[Corpus, Counts, bool]:
        """A split in blocks, its counts, and whether its tokens are kept from an earlier run."""
        import numpy

        from ftrun.data.text.packing import cut, joined
        from ftrun.data.text.token_cache import remembered

        tokenizer, rows = data.processor, data.rows.splits[split]
        if self.stream and not isinstance(rows, list):
            return packed(self, tokenizer, rows, block, whole, counts)
        pieces = self.tokens(tokenizer, rows, counts)
        columns = [list(texts) for texts in zip(*rows, strict=True)]
        options = ["packed", *self.options(tokenizer)]
        found, known = remembered(tokenizer, columns, options, lambda: [*joined(pieces), [*counts.values()]])
        counts = dict(zip(counts, map(int, found[2]), strict=True))
        return cut(found[0].astype(numpy.uint32), found[1].astype(numpy.uint8), block, whole), counts, known

    def refuse_short(self, corpus: Corpus, room: int) -> None:
        """DataError where the training documents do not fill one block."""
        if len(corpus.tokens) < room:
            raise DataError(
                f"task.train has {counted(len(corpus.tokens), 'token')}, fewer than task.block={self.block};"
                " possible: a smaller task.block, more text"
            )
