"""Wrong labels planted in real data: how many of them `ftrun errors` finds, and what else it doubts.

    python scripts/bench/planted_labels.py --train train.tsv --test test.tsv --text sentence --dir FOLDER

takes some rows of two classes, turns over a share of their labels, once in train and once in test, and prints
the table of RESULTS.md. Those of train are judged out-of-fold, on the frozen features that a run starts from,
those of test by a linear probe and a fully fine-tuned network. FOLDER keeps the files, the rows turned over
(turned.json) and the runs.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

Row = dict[str, str]
FIRST = 50  # the rows most in doubt


def main() -> None:
    options = parse()
    place = options.dir
    place.mkdir(parents=True, exist_ok=True)
    train = stratified(read(options.train), options.rows, options.label)
    test = read(options.test)
    turned: dict[str, list[int]] = {}
    for name, rows in (("train", train), ("test", test)):
        write(place / f"{name}.tsv", rows)
        turned[name] = turn(rows, options.label, options.share, options.seed)
        write(place / f"{name}-turned.tsv", rows)
    (place / "turned.json").write_text(json.dumps(turned), encoding="utf-8")
    print(
        f"| planted in | judged by | rows | planted | in doubt | precision | of the first {FIRST} | recall |"
    )
    print("|---|---|---:|---:|---:|---:|---:|---:|")
    words = [f"task.text={options.text}", f"task.label={options.label}", *options.settings]
    for strategy, split in (("linear_probe", "train"), ("linear_probe", "test"), ("full", "test")):
        run = place / f"{strategy}-{split}"
        files = {
            each: place / f"{each}{'-turned' if each == split else ''}.tsv" for each in ("train", "test")
        }
        # out-of-fold all rows of train are judged, and the run's own training is not looked at
        own = [f"task.validation={files['test']}", "train.max_steps=1"] if split == "train" else []
        trained(run, strategy, files, [*words, *own])
        found = doubted(run, split)
        planted = set(turned[split])
        rows = len(train if split == "train" else test)
        right = [row in planted for row in found]
        judge = "out-of-fold probe" if split == "train" else f"strategy={strategy}"
        first = right[:FIRST]
        numbers = [sum(right) / len(found), sum(first) / len(first), sum(right) / len(planted)]
        shares = " | ".join(f"{100 * number:.1f} %" for number in numbers)
        print(f"| {split} | {judge} | {rows:,} | {len(planted)} | {len(found)} | {shares} |", flush=True)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument("--text", default="text")
    parser.add_argument("--label", default="label")
    parser.add_argument("--rows", type=int, default=2000, help="of train, stratified")
    parser.add_argument("--share", type=float, default=0.05, help="of the labels that is turned over")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dir", type=Path, required=True)
    parser.add_argument("settings", nargs="*", help="of ftrun, such as model.name=DIR")
    return parser.parse_intermixed_args()


def read(file: Path) -> list[Row]:
    with file.open(encoding="utf-8", newline="") as opened:
        return list(csv.DictReader(opened, delimiter="\t", quoting=csv.QUOTE_NONE))


def write(file: Path, rows: list[Row]) -> None:
    lines = ["\t".join(rows[0]), *("\t".join(row.values()) for row in rows)]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def stratified(rows: list[Row], count: int, label: str) -> list[Row]:
    """So many rows, with the classes' shares, in the file's order."""
    classes: dict[str, list[int]] = defaultdict(list)
    for number, row in enumerate(rows):
        classes[row[label]].append(number)
    chance, chosen = random.Random(0), []
    for name in sorted(classes):
        chosen += chance.sample(classes[name], round(count * len(classes[name]) / len(rows)))
    return [rows[number] for number in sorted(chosen)]


def turn(rows: list[Row], label: str, share: float, seed: int) -> list[int]:
    """Turn over a share of the labels, in place; returns the rows, counted from 1."""
    names = sorted({row[label] for row in rows})
    if len(names) != 2:
        sys.exit(f"{label} has {len(names)} values, not 2 that can be turned over")
    chosen = sorted(random.Random(seed).sample(range(len(rows)), round(share * len(rows))))
    for number in chosen:
        rows[number] = rows[number] | {label: names[1 - names.index(rows[number][label])]}
    return [number + 1 for number in chosen]


def trained(run: Path, strategy: str, files: dict[str, Path], words: list[str]) -> None:
    """A run at ftrun's defaults, unless it is there; validation is a tenth of train."""
    if not (run / "result.json").is_file():
        given = [f"task.{split}={file}" for split, file in files.items()]
        ftrun("task=classify", f"strategy={strategy}", *given, *words, f"hydra.run.dir={run}")


def doubted(run: Path, split: str) -> list[int]:
    """The rows whose labels are in doubt, by their number in their file, the least probable label first."""
    output = run / f"errors-{split}.jsonl"
    ftrun("errors", str(run), "--split", split, "--output", str(output))
    lines = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
    found = [line for line in lines if line["in_doubt"]]
    return [line["file_row"] for line in sorted(found, key=lambda line: line["probabilities"][line["label"]])]


def ftrun(*words: str) -> None:
    result = subprocess.run([sys.executable, "-m", "ftrun", *words], capture_output=True, text=True)
    if result.returncode:
        sys.exit(f"ftrun {' '.join(words)}\n{result.stdout[-2000:]}{result.stderr}")


if __name__ == "__main__":
    main()
