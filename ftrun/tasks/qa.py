"""Extractive question answering: the answer is a span of a paragraph, or there is none."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ftrun.data.leaks import of_texts
from ftrun.errors import DataError, counted
from ftrun.settings.checks import at_least, finite, one_of
from ftrun.settings.habits import Habits
from ftrun.tasks.dataset import SPLITS, Batch, Dataset, Draw, Example
from ftrun.tasks.losses import IGNORED
from ftrun.tasks.parts.spans import ENDS, SpanScorer, gold_of, labelled_spans, span_loss
from ftrun.tasks.parts.windowed import Windowed, WindowRows, part_of_window, refuse_full

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from ftrun.data.squad import Question
    from ftrun.models.spec import Spec
    from ftrun.tasks.data import TaskData
    from ftrun.tasks.objective import Objective


@dataclass
class Qa(Windowed):
    """SQuAD (Rajpurkar et al. 2016, 2018) and data like it: start and end among a window's tokens.

    The network reads the question and then as much of the paragraph as fits; a long paragraph becomes
    windows, and the best span of all answers. A window without the answer, and a question without one, point
    at the first token (Devlin et al. 2019).
    """

    habits: ClassVar[Habits] = Habits(steps=600, epochs=(2, 20), batch=16)

    question: str
    context: str
    answers_: str
    no_answer: bool
    null_threshold: float
    misplaced: str
    max_question: int | str
    n_best: int
    max_answer_length: int

    reads: ClassVar[str] = "SQuAD JSON or a jsonl file"
    rows_are: ClassVar[str] = "questions"
    part: ClassVar[str] = "paragraphs"
    shared: ClassVar[int] = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("task.misplaced", self.misplaced, ["drop", "error"])
        finite("task.null_threshold", self.null_threshold)
        self.asked = part_of_window("task.max_question", self.max_question, self.max_length, 6)
        lengths = {
            "max_question": self.asked,
            "n_best": self.n_best,
            "max_answer_length": self.max_answer_length,
        }
        for name, value in lengths.items():
            at_least(f"task.{name}", value, 1)
        stride, question = (self.overlap, self.stride), (self.asked, self.max_question)
        refuse_full(self.max_length, stride=stride, max_question=question)
        self.columns = {"question": self.question, "context": self.context, "answers": self.answers_}

    def load(self, seed: int) -> WindowRows:
        rows, notes = self.read_splits(seed)
        return WindowRows(rows, notes, fingerprint(rows), task=self, slices=self.sliced(rows))

    def load_file(self, file: str, answered: bool, spec: Spec) -> WindowRows:
        from ftrun.data.sources import sources_of
        from ftrun.data.squad import rows_of

        if answered:
            rows, notes = self.read_file(file)
            return WindowRows(rows, notes, fingerprint(rows), task=self)
        inputs = [row for one in sources_of(file) for row in rows_of(one)]
        return WindowRows({"test": inputs}, inputs=inputs, task=self, answered=False, source=file)

    def usable(self, split: str, source: str, notes: list[str]) -> list[Question]:
        """The questions that can be learned or scored; DataError where the source and settings disagree."""
        from ftrun.data.squad import contradictions, read_questions

        rows = read_questions(source, self.columns, answered=True, split=split)
        if wrong := contradictions(rows, self.answers_):
            notes.append(
                f"warning: {split}: is_impossible is not what the answers of"
                f" {counted(len(wrong), 'question')} say, first {wrong[0].where}; none of them has an answer"
            )
        readable = [row for row in rows if row.question.strip() and row.context.strip()]
        full = self.kept(split, source, rows, readable, notes)
        impossible = [row for row in full if not row.answers]
        if impossible and not self.no_answer:
            raise DataError(
                f"task.{split}={source}: {len(impossible)} of {counted(len(full), 'question')} without an"
                f" answer, first {impossible[0].where}; possible: task.no_answer=true"
            )
        kept = self.well_placed(split, source, full, notes)
        if not kept:
            raise DataError(
                f"task.{split}={source}: no answer of {counted(len(rows), 'question')} is in its context"
            )
        return kept

    def well_placed(self, split: str, source: str, rows: list[Question], notes: list[str]) -> list[Question]:
        """The rows, of train without those of which no answer stands at its offset.

        Elsewhere such a question stays: it is scored by the text of its answers.
        """
        wrong = [(row, pair) for row in rows for pair in row.answers or [] if pair not in row.placed()]
        if not wrong:
            return rows
        named = "; ".join(f"{text[:40]!r} in {row.where}" for row, (text, _) in wrong[:3])
        count = counted(len(wrong), "answer")
        problem = f"task.{split}={source}: {count} not in the context at the offset: {named}"
        if self.misplaced == "error":
            raise DataError(f"{problem}; possible: task.misplaced=drop")
        kept = [row for row in rows if split != "train" or not row.answers or row.placed()]
        notes.append(f"{problem}; {counted(len(rows) - len(kept), 'question')} dropped")
        return kept

    def text_of(self, row: Question) -> str:
        return row.context

    def parts(self, rows: dict[str, list[Any]]) -> dict[str, list[str]]:
        """Every paragraph once: it has several questions."""
        return {split: list(dict.fromkeys(texts)) for split, texts in super().parts(rows).items()}

    def describe(self, rows: WindowRows) -> dict[str, Any]:
        """Questions that are asked twice of one paragraph are the split's duplicates."""
        from ftrun.data.card import repetitions

        splits = rows.splits
        asked = {split: [f"{row.question} | {row.context}" for row in part] for split, part in splits.items()}
        found = {"duplicates": repetitions(of_texts(asked))["duplicates"]}
        if self.no_answer:
            found["impossible"] = {
                split: sum(not row.answers for row in part) for split, part in splits.items()
            }
        return found

    def untrained(self, rows: Any, split: str) -> dict[str, list[tuple[Any, Any]]]:
        """No answer to any question, where that can be correct (Rajpurkar et al. 2018)."""
        from ftrun.data.baselines import NOTHING

        return {NOTHING: [(gold_of(row), "") for row in rows.splits[split]]} if self.no_answer else {}

    def spec(self, source: Any) -> Spec:
        """Start and end are the same for all data."""
        return self.spec_of("AutoModelForQuestionAnswering", ENDS)

    def encode(self, data: TaskData, split: str) -> Passages:
        rows = data.rows
        padding = data.processor.pad_token_id
        if not rows.answered:
            return Passages(self.encode_unanswered(data), "", padding)
        questions = rows.splits[split]
        found, cut, known = self.windowed(data.processor, questions)
        longest = max(example.size for example in found)
        cached = ", tokens from the cache," * known
        line = f"{split}: {counted(len(questions), 'question')}{cached} in {counted(len(found), 'window')}"
        line += f" of up to {longest} tokens"
        places = [example.target.span for example in found if example.target.span is not None]
        line += f", {sum(first > 0 for first, _ in places):,} with the answer"
        line += f", {counted(cut, 'question')} cut to {counted(self.asked, 'token')}" if cut else ""
        return Passages(found, line, padding)

    def encode_unanswered(self, data: TaskData) -> list[Example]:
        from ftrun.data.squad import as_questions

        rows = data.rows
        asked = as_questions(rows.inputs, rows.source, self.columns, answered=False)
        readable = [row for row, each in enumerate(asked) if each.question.strip() and each.context.strip()]
        found, _, _ = self.windowed(data.processor, [asked[row] for row in readable])
        return [Example(example.inputs, example.target, readable[example.row]) for example in found]

    def windowed(
        self, tokenizer: PreTrainedTokenizerBase, rows: list[Question]
    ) -> tuple[list[Example], int, bool]:
        """Examples in the order of the rows, how many questions were cut, and whether all was kept."""
        from ftrun.data.text.answer_spans import passages, shortened

        if not rows:
            return [], 0, False
        texts, cut = shortened(tokenizer, [row.question for row in rows], self.asked)
        found, known = passages(tokenizer, rows, texts, self.max_length, self.overlap)
        examples = [
            Example(ids, passage, row, place=rows[row].place, whole=passage.tokens)
            for row, ids, passage in found
        ]
        return examples, cut, known

    def objective(self, data: TaskData) -> Objective:
        from ftrun.tasks.objective import Objective

        return Objective(span_loss, labelled_spans)

    def scorer(self, data: TaskData) -> SpanScorer:
        return SpanScorer(self)


class Passages(Dataset):
    """Windows of a question and its paragraph; an example's target is the passage that it shows."""

    def __init__(self, examples: list[Example], summary: str, padding: int) -> None:
        super().__init__(examples, summary)
        self.padding = padding

    def collate(self, examples: Sequence[Example], draw: Draw | None = None) -> Batch:
        import torch

        from ftrun.data.batching import pad

        width = self._width(examples)
        ids, mask = pad([example.inputs for example in examples], self.padding, width)
        inputs = {"input_ids": ids, "attention_mask": mask}
        found = [example.target for example in examples]
        if found[0].types is not None:
            inputs["token_type_ids"], _ = pad([passage.types for passage in found], 0, width)
        labels = [passage.span or (IGNORED, IGNORED) for passage in found]
        return {"inputs": inputs, "labels": torch.tensor(labels), "passages": found}


def fingerprint(rows: dict[str, list[Question]]) -> str:
    """A hash of all questions, paragraphs and answers."""
    content = [[[row.question, row.context, row.answers] for row in rows.get(split, [])] for split in SPLITS]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()
