"""Running text that is larger than memory: its documents become tokens on the disk, shard by shard."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from ftrun.data.hub import pinned
from ftrun.data.streamed.documents import Stream, document_shards
from ftrun.data.streamed.shards import in_turn
from ftrun.data.streamed.store import Numbers, opened_all, wanted, written
from ftrun.data.text.packing import SCORED, START, Corpus, every, whole_documents
from ftrun.data.text.token_cache import tokenizer_content
from ftrun.errors import DataError
from ftrun.tasks.dataset import SPLITS
from ftrun.tasks.parts.documents import Documents

if TYPE_CHECKING:
    from numpy import ndarray
    from transformers import PreTrainedTokenizerBase


VERSION = 1  # of what is written


def of_first(count: int) -> str:
    """ "first document", "first 1,234 documents"."""
    return "first document" if count == 1 else f"first {count:,} documents"


def opened(task: Any, sources: dict[str, list[str]], missing: list[str]) -> Documents:
    """The streams of three splits, of which one document each is read yet, and a hash of what they say."""
    how = task.documents or "line"
    streams: dict[str, Any] = {}
    for split in SPLITS:
        hold = missing if split not in sources or split == "train" else []
        whose = split if split in sources else "train"
        names = [pinned(name) if name.startswith("hub:") else name for name in sources[whose]]
        shards = document_shards(names, whose, how)
        most = task.subset if split == "train" else None
        streams[split] = Stream(shards, task.columns, how, hold, split, most)
        if next(iter(streams[split]), None) is None:
            raise nothing_in(split, sources.get(split))
    found = hashlib.sha256("".join(stream.content() for stream in streams.values()).encode())
    notes = [f"{split}: 1% of the documents split off train" for split in missing]
    if task.subset is not None:
        notes.append(f"train: the {of_first(task.subset)} (task.subset)")
    return Documents(streams, notes, found.hexdigest(), task=task)


def nothing_in(split: str, names: list[str] | None) -> DataError:
    """That a split has no document, of its own source or of those carved from train."""
    if names is not None:
        return DataError(f"task.{split}={', '.join(names)} has no text")
    return DataError(
        f"task.train has too few documents to carve {split} from, one in a hundred; set task.{split}, or"
        " task.stream=false for a tenth"
    )


def packed(
    task: Any,
    tokenizer: PreTrainedTokenizerBase,
    stream: Stream,
    block: int,
    whole: bool,
    counts: dict[str, int],
) -> tuple[Corpus, dict[str, int], bool]:
    """The documents in blocks, their counts, and whether all their tokens were there before."""
    known = tokenizer_content(tokenizer)
    names, parts, made = [], stream.parts(), False
    for part in parts:
        key = json.dumps([VERSION, part.content(), task.options(tokenizer), known], default=str)
        names.append(hashlib.sha256(key.encode()).hexdigest()[:32] + ".tokens")
    for number in in_turn(len(parts)):
        with wanted(names[number]) as absent:
            if absent:
                made = True
                write(task, tokenizer, parts[number], names[number], dict.fromkeys(counts, 0))
    files = opened_all(names)
    counts = {name: sum(file.facts["counts"][name] for file in files) for name in counts}
    documents, scored = (sum(file.facts[name] for file in files) for name in ("documents", "scored"))
    tokens: Any = Numbers(files, "tokens", "uint32")
    flags: Any = Numbers(files, "flags", "uint8")
    edges = whole_documents(starts_in(flags), len(tokens), block) if whole else every(block, flags)
    return Corpus(tokens, flags, edges, documents, 0, scored), counts, not made


def write(
    task: Any, tokenizer: PreTrainedTokenizerBase, part: Stream, name: str, counts: dict[str, int]
) -> None:
    import numpy

    documents = scored = 0
    with written(name, "tokens") as out:
        for ids, kinds in task.tokens(tokenizer, part, counts):
            out.add("tokens", numpy.array(ids, numpy.uint32).tobytes())
            out.add("flags", bytes(kinds))
            documents, scored = documents + 1, scored + kinds.count(SCORED)
        out.facts = {"counts": counts, "documents": documents, "scored": scored}


def starts_in(flags: Numbers) -> ndarray:
    """Where documents begin, int64."""
    import numpy

    found: list[ndarray] = [begin + numpy.flatnonzero(piece == START) for begin, piece in flags.pieces()]
    return numpy.concatenate(found) if found else numpy.zeros(0, numpy.int64)
