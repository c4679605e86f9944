"""Questions whose answer is the one telling word of a paragraph: learnable by a tiny random network."""

from __future__ import annotations

import json
import random
from pathlib import Path

from conftest import PLAIN, TELLING

COUNTS = {"train": 48, "validation": 12, "test": 12}


def rows(count: int, chance: random.Random, impossible: bool = False) -> list[dict]:
    """Rows with id, question, context and answers; with `impossible` one in four has no answer."""
    found = []
    for number in range(count):
        words = chance.choices(PLAIN, k=chance.randint(4, 12))
        answer = chance.choice([word for some in TELLING.values() for word in some])
        answers = {"text": [answer], "answer_start": [0]}
        if impossible and number % 4 == 0:
            answers = {"text": [], "answer_start": []}
        else:
            place = chance.randint(0, len(words))
            words.insert(place, answer)
            answers["answer_start"] = [len(" ".join(words[:place])) + (place > 0)]
        found.append(
            {"id": f"q{number}", "question": "was the film", "context": " ".join(words), "answers": answers}
        )
    return found


def files(place: Path, impossible: bool = False) -> dict[str, Path]:
    """train, validation and test as jsonl."""
    chance, made = random.Random(0), {}
    for split, count in COUNTS.items():
        made[split] = place / f"{split}.jsonl"
        lines = (json.dumps(row) for row in rows(count, chance, impossible))
        made[split].write_text("\n".join(lines) + "\n", encoding="utf-8")
    return made


def words(place: Path, impossible: bool = False) -> list[str]:
    """The settings that make an experiment of these files."""
    made = files(place, impossible)
    return [
        "task=qa", *(f"task.{split}={file}" for split, file in made.items()), "task.max_length=24",
        "task.max_question=4", "task.stride=4", f"task.no_answer={str(impossible).lower()}",
        "train.batch_size=16",
    ]  # fmt: skip
