"""Every strategy on every architecture, each cell a run of a few steps: trained, or refused in a sentence.

python scripts/bench/matrix.py OUT [--networks BERT T5 …] [--columns full lora …] [--tasks] [--markdown]
makes checkpoints of random weights in OUT, trains each strategy on each (texts or images with two classes),
merges each LoRA, VeRA and (IA)³, and prints the table with the sentences of the refusals; `matrix.jsonl` has
a line for each cell, and one that ended well is not run again. With --tasks the columns are tasks (classify,
ner, qa, mlm and lm) with strategies full, lora and adapter. The exit code is 1 where a cell ends in a
traceback, or where what was saved answers otherwise.
"""

from __future__ import annotations

import argparse
import copy
import gc
import json
import os
import shutil
import sys
import time
import traceback
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from tiny_networks import IMAGES, NETWORKS, checkpoint, data

FEW = [
    "train.max_steps=3", "train.batch_size=8", "train.eval_every=3", "train.checkpoint_every=3",
    "train.lr=1e-3", "baselines=false", "device=cpu",
]  # fmt: skip
LARGEST_DIFFERENCE = 1e-3  # of a logit, between the network in memory and the one that is read back
OWN = {  # words of a cell beside its strategy
    "freeze": ["bottom=1", "train.max_steps=8"],  # enough to keep the features of what is frozen
    "gradual_unfreeze": ["every=0.3"], "ewc": ["samples=8"], "replay": ["buffer=8"],
    "adapter": ["bottleneck=4"], "lora": ["rank=2"],
}  # fmt: skip
COLUMNS = {
    **{name: [f"strategy={name}"] for name in (
        "full", "scratch", "freeze", "gradual_unfreeze", "linear_probe", "lp_ft", "bitfit", "norms",
    )},
    "adapter": ["strategy=adapter"],
    "pfeiffer": ["strategy=adapter", "placement=pfeiffer"],
    "lora": ["strategy=lora"],
    "lora all": ["strategy=lora", "targets=all"],
    "dora all": ["strategy=lora", "targets=all", "variant=dora"],
    "pissa all": ["strategy=lora", "targets=all", "variant=pissa"],
    "vera": ["strategy=vera", "rank=4"],
    "ia3": ["strategy=ia3"],
    "prompt": ["strategy=prompt", "tokens=4"],
    "prefix": ["strategy=prefix", "tokens=4"],
    **{name: [f"strategy={name}"] for name in ("l2sp", "ewc", "replay")},
}  # fmt: skip
SOURCE = "full"  # the column whose run is the earlier task of ewc and replay
BY_TASK = {
    f"{task} {name}": words
    for task in ("classify", "ner", "qa", "mlm", "lm")
    for name, words in COLUMNS.items()
    if name in ("full", "adapter", "lora")
}
TRAINED = "●"


@dataclass
class Cell:
    """What came of a strategy on a network."""

    network: str
    column: str
    state: str  # trained | refused | different | traceback
    says: str  # the sentence of a refusal, or the last line of a traceback
    seconds: float


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--networks", nargs="+", default=[*NETWORKS], choices=[*NETWORKS], metavar="NAME")
    parser.add_argument("--columns", nargs="+", metavar="NAME", help="some of them, such as 'lora all'")
    parser.add_argument("--tasks", action="store_true", help="columns are tasks")
    parser.add_argument("--markdown", action="store_true", help="print the table for a page")
    options = parser.parse_args()
    columns = BY_TASK if options.tasks else COLUMNS
    columns = {name: columns[name] for name in options.columns or columns}
    networks = [name for name in options.networks if not (options.tasks and name in IMAGES)]
    cells = list(matrix(options.out.resolve(), networks, columns))
    print("\n".join(as_table(cells, [*columns], options.markdown)))
    sys.exit(any(cell.state in ("traceback", "different") for cell in cells))


def matrix(out: Path, networks: list[str], columns: dict[str, list[str]]) -> Iterator[Cell]:
    """The cells, row by row, each written to matrix.jsonl; one that ended well before is not run again."""
    out.mkdir(parents=True, exist_ok=True)
    os.environ["XDG_CACHE_HOME"] = str(out / "cache")
    file = out / "matrix.jsonl"
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    before = [Cell(**json.loads(line)) for line in lines]
    known = {(each.network, each.column): each for each in before if each.state in ("trained", "refused")}
    for network in networks:
        place = checkpoint(network, out / "networks" / network.replace(" ", "_"))
        for column, words in columns.items():
            found = known.get((network, column))
            if found is None:
                found = cell(network, column, words, place, out)
                with file.open("a", encoding="utf-8") as opened:
                    opened.write(json.dumps(vars(found)) + "\n")
                print(f"{network:<14}{column:<18}{found.state:<11}{found.seconds:5.1f} s  {found.says}")
                gc.freeze()  # what is imported is not searched in every cell, half of its time
            yield found


def cell(network: str, column: str, words: list[str], place: Path, out: Path) -> Cell:
    """One run, from its settings to its merged or reloaded network."""
    from ftrun.errors import UserError
    from ftrun.runs.terminal import logged

    task = "image" if network in IMAGES else column.split()[0] if column in BY_TASK else "classify"
    run = out / "runs" / f"{place.name}-{column.replace(' ', '-')}"
    shutil.rmtree(run, ignore_errors=True)
    begin = time.perf_counter()
    state, says = "trained", ""
    try:
        with logged(out / "matrix.log"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            difference = trained([*data(task, out / "data" / task), *words, *FEW], place, run)
        if not difference <= LARGEST_DIFFERENCE:
            state, says = "different", f"a logit by {difference:.1e}"
    except UserError as error:
        state, says = "refused", str(error).replace(str(place), network)
    except Exception as error:
        state, says = "traceback", f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        with (out / "matrix.log").open("a", encoding="utf-8") as file:
            file.write(traceback.format_exc())
    return Cell(network, column, state, says, time.perf_counter() - begin)


@cache
def composed(words: tuple[str, ...]) -> dict[str, Any]:
    """The settings of a command line, once for the cells of a column."""
    from hydra import compose, initialize_config_dir

    from ftrun import CONF
    from ftrun.experiments.overrides import plain

    with initialize_config_dir(str(CONF), version_base="1.3"):
        return plain(compose("config", list(words)))


def trained(words: list[str], place: Path, run: Path) -> float:
    """Train and, where it is a LoRA, merge; the largest difference of a logit after reading it back."""
    from ftrun.commands.merge import main as merge
    from ftrun.experiments.single import run as train
    from ftrun.settings.read import read

    strategy = next(word for word in words if word.startswith("strategy=")).partition("=")[2]
    raw = copy.deepcopy(composed((*words, *OWN.get(strategy, []))))
    raw["model"]["name"] = str(place)
    if strategy in ("ewc", "replay"):
        raw["source"] = {"kind": "run", "run": str(run.with_name(run.name.replace(strategy, SOURCE)))}
    train(read(raw), run)
    if strategy in ("lora", "vera", "ia3"):
        merge([str(run)])
    return float(json.loads((run / "result.json").read_text(encoding="utf-8"))["reload_difference"])


def as_table(cells: list[Cell], columns: list[str], markdown: bool) -> list[str]:
    """A row for each network, a mark for what trained and a number for each sentence, which follow below."""
    numbers: dict[str, int] = {}
    marks: dict[str, dict[str, str]] = defaultdict(dict)
    for each in cells:
        sentence = each.says.replace(each.network, "NAME")
        mark = TRAINED if each.state == "trained" else str(numbers.setdefault(sentence, len(numbers) + 1))
        marks[each.network][each.column] = mark if each.state in ("trained", "refused") else f"{mark}!"
    rows = [[name, *(own.get(column, "") for column in columns)] for name, own in marks.items()]
    told = ", ".join(f"{count} {state}" for state, count in Counter(each.state for each in cells).items())
    notes = [f"{number}. {sentence}" for sentence, number in numbers.items()]
    if markdown:
        lines = [["network", *columns], ["---"] * (1 + len(columns)), *rows]
        return [*(f"| {' | '.join(line)} |" for line in lines), "", *notes, "", f"{len(cells)} cells: {told}"]
    widths = [14, *(max(len(column), 2) + 2 for column in columns)]
    table = [["", *columns], *rows]
    lines_ = ["".join(value.ljust(width) for value, width in zip(row, widths, strict=True)) for row in table]
    return [*lines_, "", *notes, "", f"{len(cells)} cells: {told}"]


if __name__ == "__main__":
    main()
