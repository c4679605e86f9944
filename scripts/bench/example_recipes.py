"""The recipes of transformers' own examples, beside which ftrun's scores are to be seen.

    python scripts/bench/example_recipes.py stsb --train a.tsv --test b.tsv --model DIR --seeds 0 1 2
    python scripts/bench/example_recipes.py wnut17 --train a.conll --test b.conll --model DIR --seeds 0 1 2

`stsb` is examples/pytorch/text-classification/run_glue.py with the options of its README (128 tokens, batches
of 32, rate 2e-5, 3 epochs) and --pad_to_max_length False, which changes the time and not the score; `wnut17`
is run_ner.py of examples/pytorch/token-classification with the defaults of TrainingArguments (batches of 8,
rate 5e-5, 3 epochs); `squad` is run_qa.py of examples/pytorch/question-answering with the options of its
README (windows of 384 tokens, stride 128, batches of 12, rate 3e-5; --epochs 2). All score the last weights.
--epochs, --rate and --batch replace the recipe's own, to compare both sides at equal settings.
"""

from __future__ import annotations

import argparse
import csv
import json
import tempfile
import time
from pathlib import Path
from statistics import mean, stdev
from typing import Any

RECIPES: dict[str, dict[str, Any]] = {
    "stsb": {"batch": 32, "rate": 2e-5, "metric": "pearson"},
    "wnut17": {"batch": 8, "rate": 5e-5, "metric": "f1"},
    "squad": {"batch": 12, "rate": 3e-5, "metric": "f1"},
}
EPOCHS, MAX_LENGTH = 3, 128
WINDOW, STRIDE, ANSWER, BEST = 384, 128, 30, 20  # tokens, and spans of a window that are looked at
Rows = list[dict[str, Any]]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("recipe", choices=RECIPES)
    for name in ("train", "test", "model"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=float, default=EPOCHS)
    parser.add_argument("--rate", type=float, help="peak rate instead of the recipe's")
    parser.add_argument("--batch", type=int, help="examples per batch instead of the recipe's")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--lora", type=int, metavar="RANK", help="with peft, at a rate of 1e-3")
    options = parser.parse_args()
    found = []
    for seed in options.seeds:
        found.append(trained(options, seed))
        print(json.dumps(found[-1]), flush=True)
    metric = RECIPES[options.recipe]["metric"]
    scores = [100 * each[metric] for each in found]
    spread = f" ± {stdev(scores):.1f}" if len(scores) > 1 else ""
    print(f"{options.recipe}: {metric} {mean(scores):.1f}{spread} on {len(scores)} seeds")


def trained(options: argparse.Namespace, seed: int) -> dict[str, Any]:
    from transformers import AutoTokenizer, Trainer, TrainingArguments, set_seed

    set_seed(seed)
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    build = {"stsb": pairs, "wnut17": words, "squad": questions}[options.recipe]
    model, collate, train, test, score = build(options, tokenizer)
    if options.lora:
        model = with_lora(model, options)
    recipe = RECIPES[options.recipe]
    with tempfile.TemporaryDirectory() as place:
        arguments = TrainingArguments(
            output_dir=place, seed=seed, num_train_epochs=options.epochs, use_cpu=options.device == "cpu",
            dataloader_pin_memory=False, per_device_train_batch_size=options.batch or recipe["batch"],
            learning_rate=options.rate or (1e-3 if options.lora else recipe["rate"]),
            save_strategy="no", logging_strategy="no", report_to="none", disable_tqdm=True,
        )  # fmt: skip
        trainer = Trainer(model, arguments, data_collator=collate, train_dataset=train)
        began = time.process_time()
        trainer.train()
        spent = time.process_time() - began
        scores = score(trainer.predict(test))
    return {"seed": seed, **scores, "cpu_seconds": round(spent, 1)}


def with_lora(model: Any, options: argparse.Namespace) -> Any:
    from peft import LoraConfig, get_peft_model

    kind = "SEQ_CLS" if options.recipe == "stsb" else "TOKEN_CLS"
    targets = ["query", "key", "value", "attention.output.dense"]
    config = LoraConfig(task_type=kind, r=options.lora, lora_alpha=2 * options.lora, target_modules=targets)
    return get_peft_model(model, config)


def pairs(options: argparse.Namespace, tokenizer: Any) -> tuple[Any, ...]:
    """Two sentences and a number."""
    from scipy.stats import pearsonr, spearmanr
    from transformers import AutoModelForSequenceClassification, DataCollatorWithPadding

    def encoded(file: str) -> Rows:
        with open(file, newline="", encoding="utf-8") as lines:
            rows = list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
        batch = tokenizer(
            [row["sentence1"] for row in rows], [row["sentence2"] for row in rows],
            truncation=True, max_length=MAX_LENGTH,
        )  # fmt: skip
        return [
            {**{key: value[i] for key, value in batch.items()}, "label": float(row["score"])}
            for i, row in enumerate(rows)
        ]

    def score(found: Any) -> dict[str, float]:
        answers = found.predictions.squeeze(-1)
        pearson, spearman = pearsonr(answers, found.label_ids)[0], spearmanr(answers, found.label_ids)[0]
        return {"pearson": float(pearson), "spearman": float(spearman)}

    model = AutoModelForSequenceClassification.from_pretrained(options.model, num_labels=1, dtype="float32")
    return model, DataCollatorWithPadding(tokenizer), encoded(options.train), encoded(options.test), score


def words(options: argparse.Namespace, tokenizer: Any) -> tuple[Any, ...]:
    """A tag per word at its first token; F1 of entities as ftrun counts it, whose sums are seqeval's."""
    from transformers import AutoModelForTokenClassification, DataCollatorForTokenClassification

    from ftrun.tasks.metrics.entities import entity_scores

    sentences = {file: read_columns(file) for file in (options.train, options.test)}
    names = sorted({tag for _, tags in sentences[options.train] for tag in tags})

    def encoded(file: str) -> Rows:
        found = []
        for tokens, tags in sentences[file]:
            batch = tokenizer(tokens, is_split_into_words=True, truncation=True, max_length=512)
            places = batch.word_ids()
            labels = [
                -100 if place is None or place == before else names.index(tags[place])
                for place, before in zip(places, [None, *places], strict=False)
            ]
            found.append({**batch, "labels": labels})
        return found

    def score(found: Any) -> dict[str, float]:
        rows = zip(found.label_ids, found.predictions.argmax(-1), strict=True)
        kept = [(labels[labels >= 0], answers[labels >= 0]) for labels, answers in rows]
        given, answered = ([[names[i] for i in row[side]] for row in kept] for side in (0, 1))
        return {name: entity_scores(given, answered)[""][name] for name in ("f1", "precision", "recall")}

    model = AutoModelForTokenClassification.from_pretrained(
        options.model, num_labels=len(names), dtype="float32"
    )
    collate = DataCollatorForTokenClassification(tokenizer)
    return model, collate, encoded(options.train), encoded(options.test), score


def questions(options: argparse.Namespace, tokenizer: Any) -> tuple[Any, ...]:
    """Start and end of an answer in a paragraph; the best span of all windows, scored by SQuAD's measure."""
    from transformers import AutoModelForQuestionAnswering, DataCollatorWithPadding

    from ftrun.tasks.metrics.spans import scores

    asked = {file: read_questions(file) for file in (options.train, options.test)}
    windows: dict[str, Rows] = {file: windows_of(asked[file], tokenizer) for file in asked}
    names = [*tokenizer.model_input_names, "start_positions", "end_positions"]

    def score(found: Any) -> dict[str, float]:
        best: dict[int, tuple[float, str]] = {}
        for window, start, end in zip(windows[options.test], *found.predictions[:2], strict=True):
            value, first, last = best_span(window["spans"], start, end)
            text = asked[options.test][window["number"]]["context"][first:last]
            best[window["number"]] = max(best.get(window["number"], (-1e9, "")), (value, text))
        gold = [[answer["text"] for answer in row["answers"]] for row in asked[options.test]]
        return scores([best[number][1] for number in range(len(gold))], gold, no_answer=False)

    model = AutoModelForQuestionAnswering.from_pretrained(options.model, dtype="float32")
    train, test = ([{name: w[name] for name in names} for w in windows[file]] for file in asked)
    return model, DataCollatorWithPadding(tokenizer), train, test, score


def windows_of(rows: Rows, tokenizer: Any) -> Rows:
    """Every window of every question, with its first answer's tokens, (0, 0) if another window has it."""
    batch = tokenizer(
        [row["question"] for row in rows], [row["context"] for row in rows], truncation="only_second",
        max_length=WINDOW, stride=STRIDE, return_overflowing_tokens=True, return_offsets_mapping=True,
    )  # fmt: skip
    found = []
    for window, number in enumerate(batch["overflow_to_sample_mapping"]):
        sides, spans = batch.sequence_ids(window), batch["offset_mapping"][window]
        answer = rows[number]["answers"][0]
        begin, end = answer["answer_start"], answer["answer_start"] + len(answer["text"])
        inside = [
            i for i, side in enumerate(sides) if side == 1 and spans[i][1] > begin and spans[i][0] < end
        ]
        own = [i for i, side in enumerate(sides) if side == 1]
        whole = bool(inside) and spans[own[0]][0] <= begin and spans[own[-1]][1] >= end
        found.append({
            **{name: batch[name][window] for name in tokenizer.model_input_names},
            "start_positions": inside[0] if whole else 0, "end_positions": inside[-1] if whole else 0,
            "number": number, "spans": [spans[i] if side == 1 else None for i, side in enumerate(sides)],
        })  # fmt: skip
    return found


def best_span(spans: list[Any], start: Any, end: Any) -> tuple[float, int, int]:
    """The span of the paragraph with the largest sum of logits: its sum and its characters."""
    first = [i for i in start[: len(spans)].argsort()[::-1][:BEST] if spans[i]]
    last = [i for i in end[: len(spans)].argsort()[::-1][:BEST] if spans[i]]
    every = [(float(start[i] + end[j]), i, j) for i in first for j in last if i <= j < i + ANSWER]
    value, i, j = max(every, default=(-1e9, -1, -1))
    return (value, spans[i][0], spans[j][1]) if i >= 0 else (value, 0, 0)


def read_questions(file: str) -> Rows:
    data = json.loads(Path(file).read_text(encoding="utf-8"))["data"]
    return [
        {"question": qa["question"], "context": paragraph["context"], "answers": qa["answers"]}
        for article in data
        for paragraph in article["paragraphs"]
        for qa in paragraph["qas"]
    ]


def read_columns(file: str) -> list[tuple[list[str], list[str]]]:
    blocks = Path(file).read_text(encoding="utf-8").split("\n\n")
    lines = [[line.split("\t") for line in block.splitlines() if line.strip()] for block in blocks]
    return [([token for token, _ in block], [tag for _, tag in block]) for block in lines if block]


if __name__ == "__main__":
    main()
