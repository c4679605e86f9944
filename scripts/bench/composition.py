"""A sentiment LoRA and a LoRA of in-domain text, composed, beside each alone, none, and one trained on both.

    python scripts/bench/composition.py --out DIR --train film.tsv --target reviews.tsv \\
        --text text --label label --domain task=mlm task.train=reviews.txt

`--train` has labelled rows of another domain, `--target` labelled rows of the one that counts, of which a
quarter finds the weights, a quarter joins the union and the rest is the test; `--domain` are the settings of
the run that learns the domain's language without labels. Settings of all runs go behind `--with`. A run that
--out has finished is not made again.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import re
import shutil
from pathlib import Path

from ftrun import launch
from ftrun.commands import compose, evaluate
from ftrun.data.tables import read_table, write_table
from ftrun.experiment import run
from ftrun.rundir import is_run


def main() -> None:
    """Trains what is missing and prints the table."""
    options = parse()
    options.out.mkdir(parents=True, exist_ok=True)
    files = split(options)
    common = [f"task.text={options.text}", f"task.label={options.label}", "task=classify", *options.settings]
    lora = ["strategy=lora", *common]
    runs = {
        "sentiment": [*lora, f"task.train={files['train']}"],
        "domain": ["strategy=lora", *options.settings, *options.domain],
        "union": [*lora, f"task.train={files['union']}"],
        "none": [*common, "strategy=linear_probe", f"task.train={files['train']}"],
    }
    for name, words in runs.items():
        train(options.out / name, words)
    pair = [str(options.out / "sentiment"), str(options.out / "domain")]
    compositions = {
        "domain LoRA alone": ["--weights", "0,1"],
        "composed (0.7, 0.3)": ["--weights", "0.7,0.3"],
        "composed, searched": ["--search", str(files["slice"])],
    }
    rows = [
        ("no LoRA (linear probe)", options.out / "none"),
        ("sentiment LoRA alone", options.out / "sentiment"),
    ]
    for number, (name, words) in enumerate(compositions.items()):
        place = options.out / f"composed-{number}"
        shutil.rmtree(place, ignore_errors=True)
        compose.main([*pair, *words, "--output", str(place)])
        rows.append((name, place))
    rows.append(("one LoRA on the union", options.out / "union"))
    print(f"\n| on {files['test'].name} | accuracy | F1 |\n|---|---:|---:|")
    for name, place in rows:
        print("| {} | {:.1%} | {:.1%} |".format(name, *scores(place, files["test"])), flush=True)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--out", type=Path, required=True)
    add("--train", type=Path, required=True)
    add("--target", type=Path, required=True)
    add("--text", default="text")
    add("--label", default="label")
    add("--domain", nargs="+", required=True, metavar="key=value")
    add("--with", nargs="+", default=[], dest="settings", metavar="key=value")
    return parser.parse_args()


def split(options: argparse.Namespace) -> dict[str, Path]:
    """The files of every role; rows of the target take turns, so that each role has the same mixture."""
    source = [plain(row, options) for row in read_table(options.train)[0]]
    target = [plain(row, options) for row in read_table(options.target)[0]]
    parts = {
        "train": source,
        "slice": target[0::4],
        "union": source + target[1::4],
        "test": target[2::4] + target[3::4],
    }
    files = {name: options.out / f"{name}.jsonl" for name in parts}
    for name, rows in parts.items():
        write_table(files[name], rows)
    return files


def plain(row: dict[str, str], options: argparse.Namespace) -> dict[str, str]:
    return {name: row[name] for name in (options.text, options.label)}


def train(place: Path, words: list[str]) -> None:
    """One run, unless it is there."""
    if not (is_run(place) and (place / "result.json").is_file()):
        from ftrun.config import read

        shutil.rmtree(place, ignore_errors=True)
        run(read(launch.compose(words)), place)


def scores(place: Path, file: Path) -> tuple[float, float]:
    """Accuracy and macro F1 on a file, as `ftrun evaluate` says them."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        evaluate.main([str(place), "--input", str(file)])
    found = dict(re.findall(r"test_(\w+)\s+([\d.]+)", said.getvalue()))
    return float(found["accuracy"]), float(found["f1"])


if __name__ == "__main__":
    main()
