"""Questions answered by a span of a paragraph, or by saying that it has no answer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ftrun.data.leaks import of_texts
from ftrun.errors import DataError
from ftrun.settings.checks import at_least, finite, one_of
from ftrun.tasks.base import SPLITS, Answer, Batch, Example
from ftrun.tasks.parts.windowed import IGNORED, Windowed, labelled, summed_loss

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

    from ftrun.data.squad import Question

ENDS = ("start", "end")


@dataclass
class Qa(Windowed):
    """SQuAD (Rajpurkar et al. 2016, 2018) and data like it: start and end among a window's tokens.

    The network reads the question and then as much of the paragraph as fits; a long paragraph becomes
    windows, and the best span of all answers. A window without the answer, and a question without one, point
    at the first token (Devlin et al. 2019).
    """

    question: str
    context: str
    answers_: str
    no_answer: bool
    null_threshold: float
    misplaced: str
    max_question: int
    n_best: int
    max_answer_length: int

    metrics: ClassVar[dict[str, str]] = {"f1": "max", "exact_match": "max", "loss": "min"}
    default_metric: ClassVar[str] = "f1"
    auto_class: ClassVar[str] = "AutoModelForQuestionAnswering"
    reads: ClassVar[str] = "SQuAD JSON or a jsonl file"
    unit: ClassVar[str] = "questions"
    part: ClassVar[str] = "paragraphs"

    def __post_init__(self) -> None:
        from ftrun.data.text.windows import SPECIAL

        super().__post_init__()
        one_of("task.misplaced", self.misplaced, ["drop", "error"])
        finite("task.null_threshold", self.null_threshold)
        for name in ("max_question", "n_best", "max_answer_length"):
            at_least(f"task.{name}", getattr(self, name), 1)
        self.refuse_short(
            self.max_question + self.stride + SPECIAL + 1,
            f"task.max_question={self.max_question}, task.stride={self.stride}, {SPECIAL} special tokens and"
            " one of its own",
        )
        self.columns = {"question": self.question, "context": self.context, "answers": self.answers_}
        self.rows: dict[str, list[Question]] = {}

    def usable(self, split: str, source: str, notes: list[str]) -> list[Question]:
        """The questions that can be learned or scored; DataError where the source and settings disagree."""
        from ftrun.data.squad import read_questions

        rows = read_questions(source, self.columns, answered=True, split=split)
        readable = [row for row in rows if row.question.strip() and row.context.strip()]
        full = self.kept(split, source, rows, readable, notes)
        impossible = [row for row in full if not row.answers]
        if impossible and not self.no_answer:
            raise DataError(
                f"task.{split}={source}: {len(impossible)} of {len(full)} questions have no answer, first "
                f"{impossible[0].place}; task.no_answer=true learns to say so"
            )
        kept = self.well_placed(split, source, full, notes)
        if not kept:
            raise DataError(
                f"task.{split}={source}: no answer of the {len(rows)} questions is in its context"
            )
        return kept

    def well_placed(self, split: str, source: str, rows: list[Question], notes: list[str]) -> list[Question]:
        """The rows, of train without those of which no answer stands at its offset.

        Elsewhere such a question stays: it is scored by the text of its answers.
        """
        wrong = [(row, pair) for row in rows for pair in row.answers or [] if pair not in row.placed()]
        if not wrong:
            return rows
        named = "; ".join(f"{text[:40]!r} in {row.place}" for row, (text, _) in wrong[:3])
        said = (
            f"task.{split}={source}: {len(wrong)} answers are not in their context at their offset: {named}"
        )
        if self.misplaced == "error":
            raise DataError(f"{said}; task.misplaced=drop learns without them")
        kept = [row for row in rows if split != "train" or not row.answers or row.placed()]
        notes.append(f"{said}; {len(rows) - len(kept)} questions dropped")
        return kept

    def text_of(self, row: Question) -> str:
        return row.context

    def parts(self) -> dict[str, list[str]]:
        """Every paragraph once: it has several questions."""
        return {split: list(dict.fromkeys(texts)) for split, texts in super().parts().items()}

    def card(self) -> dict[str, Any]:
        """Questions that are asked twice of one paragraph are what a split repeats."""
        from ftrun.data.card import repetitions

        asked = {
            split: [f"{row.question} | {row.context}" for row in rows] for split, rows in self.rows.items()
        }
        found = super().card() | {"duplicates": repetitions(of_texts(asked))["duplicates"]}
        if self.no_answer:
            found["impossible"] = {
                split: sum(not row.answers for row in rows) for split, rows in self.rows.items()
            }
        return found

    def head(self) -> dict[str, Any]:
        return labelled(ENDS)

    def restore(self, config: PretrainedConfig) -> None:
        """The head's start and end are the same for all data."""

    def encode(self, tokenizer: PreTrainedTokenizerBase, split: str) -> str:
        rows = self.rows[split]
        found, cut, known = self.windowed(tokenizer, rows)
        self.encoded[split] = found
        longest = max(example.size for example in found)
        before = ", tokenised before," * known
        said = f"{split}: {len(rows):,} questions{before} in {len(found):,} windows of up to {longest} tokens"
        places = [example.target.span for example in found if example.target.span is not None]
        said += f", {sum(first > 0 for first, _ in places):,} with the answer"
        return said + (f", {cut:,} questions cut to {self.max_question} tokens" if cut else "")

    def input_rows(self, file: str) -> list[dict[str, Any]]:
        from ftrun.data.sources import sources_of
        from ftrun.data.squad import rows_of

        return [row for one in sources_of(file) for row in rows_of(one)]

    def questions(
        self, tokenizer: PreTrainedTokenizerBase, rows: list[dict[str, Any]], file: str
    ) -> list[Example]:
        from ftrun.data.squad import as_questions

        asked = as_questions(rows, file, self.columns, answered=False)
        readable = [row for row, each in enumerate(asked) if each.question.strip() and each.context.strip()]
        found, _, _ = self.windowed(tokenizer, [asked[row] for row in readable])
        return [Example(example.inputs, example.target, readable[example.row]) for example in found]

    def windowed(
        self, tokenizer: PreTrainedTokenizerBase, rows: list[Question]
    ) -> tuple[list[Example], int, bool]:
        """Examples in the order of the rows, how many questions were cut, and whether all was kept."""
        from ftrun.data.text.answer_spans import passages, shortened

        if not rows:
            return [], 0, False
        self.pad = tokenizer.pad_token_id
        texts, cut = shortened(tokenizer, [row.question for row in rows], self.max_question)
        found, known = passages(tokenizer, rows, texts, self.max_length, self.stride)
        return [Example(ids, passage, row) for row, ids, passage in found], cut, known

    def collate(self, examples: Sequence[Example]) -> Batch:
        import torch

        from ftrun.data.batching import pad

        ids, mask = pad([example.inputs for example in examples], self.pad)
        inputs = {"input_ids": ids, "attention_mask": mask}
        found = [example.target for example in examples]
        if found[0].types is not None:
            inputs["token_type_ids"], _ = pad([passage.types for passage in found], 0)
        labels = [passage.span or (IGNORED, IGNORED) for passage in found]
        return {"inputs": inputs, "labels": torch.tensor(labels), "passages": found}

    def target_count(self, batch: Batch) -> int:
        return int((batch["labels"][:, 0] != IGNORED).sum())

    def loss(self, outputs: Tensor, batch: Batch) -> tuple[Tensor, int]:
        """The mean of the cross-entropies of start and end, summed over windows; of (batch, 2, length)."""
        return summed_loss(outputs, batch["labels"]) / len(ENDS), self.target_count(batch)

    def answers(self, outputs: Tensor, batch: Batch) -> list[Answer]:
        """The best spans of each window and its null score, the sum at the first token."""
        from ftrun.data.text.answer_spans import candidates

        found = []
        for (starts, ends), passage in zip(
            outputs.detach().float().cpu().numpy(), batch["passages"], strict=True
        ):
            here = slice(passage.start, passage.start + len(passage.spans))
            spans = candidates(starts[here], ends[here], passage.spans, self.n_best, self.max_answer_length)
            found.append({"candidates": spans, "null": float(starts[0] + ends[0])})
        return found

    def merged(
        self, answers: Sequence[Answer], examples: Sequence[Example]
    ) -> tuple[Sequence[Answer], Sequence[Example]]:
        """The best span of all windows of each question, or "" where it has no answer."""
        from ftrun.data.text.answer_spans import decided

        windows: dict[int, list[Answer]] = {}
        rows: dict[int, Example] = {}
        for answer, example in zip(answers, examples, strict=True):
            windows.setdefault(example.row, []).append(answer)
            rows.setdefault(example.row, example)
        whole = [
            decided(
                found, rows[row].target.question.context, self.n_best, self.no_answer, self.null_threshold
            )
            for row, found in windows.items()
        ]
        return whole, list(rows.values())

    def given(self, example: Example) -> list[str]:
        return list(dict.fromkeys(example.target.question.texts()))

    def score(self, answers: Sequence[Answer], examples: Sequence[Example]) -> dict[str, float]:
        from ftrun.data.squad import squad_scores

        gold = [self.given(example) for example in examples]
        pairs = squad_scores([answer["answer"] for answer in answers], gold)
        found = {"f1": mean([f1 for _, f1 in pairs]), "exact_match": mean([exact for exact, _ in pairs])}
        if not self.no_answer:
            return found
        for name, wanted in (("answerable", True), ("impossible", False)):
            own = [pair for pair, texts in zip(pairs, gold, strict=True) if bool(texts) == wanted]
            if own:
                found |= {f"f1_{name}": mean([f1 for _, f1 in own])}
                found |= {f"exact_match_{name}": mean([exact for exact, _ in own])}
        return found

    def reports(self, answers: Sequence[Answer], examples: Sequence[Example]) -> dict[str, Any]:
        """nbest.json: for each question of the test split, by its id, the n best answers."""
        return {
            "nbest.json": {
                example.target.question.id: answer["n_best"]
                for answer, example in zip(answers, examples, strict=True)
            }
        }

    def fingerprint(self) -> str:
        content = [
            [[row.question, row.context, row.answers] for row in self.rows.get(split, [])] for split in SPLITS
        ]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def mean(values: list[float]) -> float:
    return sum(values) / max(1, len(values))
