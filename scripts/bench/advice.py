"""Is the advice good? The score of what `ftrun advise` recommends, beside the best way and beside fixed ones.

    python scripts/bench/advice.py OUT --data DATA --minilm DIR [--pairs SET:NETWORK …] [--rounds N …]
    python scripts/bench/advice.py OUT --report             # the tables of what is there

A case is a set, a network and a number of training rows; each way of training it has its own default rate
and budget. OUT/runs.jsonl gets a line for each run as it ends and OUT/measured.jsonl what `advise` measures
of the same rows: a start goes on where the last one was ended, several at once take other pairs, and another
rule is judged without training. By the sets in FITTED the rule was chosen, on the others it is judged. The
best way of a case is the one that scores best on half of the test rows, and regret is counted on the other
half, both ways round, so that no way is called best for its luck on the rows that judge it.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parent))
from advice_cases import Case, Run, add, made, measured
from advice_sets import SETS, pooled
from advice_tables import MANY, Judged, report, score

if TYPE_CHECKING:
    pass

WAYS = {
    "linear_probe": ["strategy=linear_probe"],
    "full": ["strategy=full"],
    "lora": ["strategy=lora"],
    "freeze": ["strategy=freeze"],
    "freeze middle": ["strategy=freeze", "layers=middle"],
    "full, decay": ["strategy=full", "train.layer_decay=0.9"],
}
EVERYWHERE = ["linear_probe", "full", "lora", "freeze"]
RANDOM = {"mlp": ["full", "lora"], "cnn_small": ["full", "lora", "freeze"]}  # networks of random weights
ROUNDS = [  # rows and seed
    (50, 0), (200, 0), (50, 1), (200, 1), (50, 2), (1000, 0), (2000, 0), (30, 0), (30, 1), (30, 2),
]  # fmt: skip
PAIRS = [  # a set and a network, the most telling first
    ("yelp", "minilm"), ("articles", "minilm"), ("yelp", "tiny_bert"), ("cipher", "minilm"),
    ("articles", "tiny_bert"), ("person", "minilm"), ("digits04", "digits59"), ("digits04", "permuted59"),
    ("usps", "digits59"), ("mnist", "digits59"), ("usps", "permuted59"), ("mnist", "permuted59"),
    ("digits", "mlp"), ("digits", "cnn_small"), ("docstrings", "tiny_bert"), ("sst2", "minilm"),
    ("sst2", "tiny_bert"), ("imdb", "minilm"), ("docstrings", "minilm"),
]  # fmt: skip
FAR = [("yelp", "tiny_bert"), ("articles", "tiny_bert"), ("cipher", "minilm"), ("sst2", "tiny_bert")]
MOST = {  # training rows that there are
    "yelp": 500, "imdb": 500, "cipher": 500, "articles": 1420, "person": 1915, "docstrings": 2931,
    "digits": 1213, "digits04": 625,
}  # fmt: skip
OWN = {  # settings of sets that are not prepared
    "digits": ["task=digits"],
    "digits04": ["task=digits", "task.classes=[0,1,2,3,4]"],
    **{
        name: [
            "task=image",
            f"task.name={name}",
            "task.size=8",
            f"task.train=DATA/{name}/train.npz",
            f"task.test=DATA/{name}/test.npz",
        ]
        for name in ("usps", "mnist")
    },
    "docstrings": ["task=docstrings", "task.max_length=64", "task.test=embedded:docstrings:test:30"],
}
MADE = {  # networks that are pretrained here, cnn_small on the digits 5 to 9
    "digits59": ["task=digits", "task.classes=[5,6,7,8,9]", "model=cnn_small"],
    "permuted59": ["task=digits", "task.classes=[5,6,7,8,9]", "task.permute=1", "model=cnn_small"],
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", type=Path, help="folder with sst2, uci_sentiment, squad_v1 and wnut17")
    parser.add_argument("--minilm", type=Path, help="directory of a pretrained encoder")
    parser.add_argument(
        "--rounds", type=int, nargs="+", default=range(len(ROUNDS)), help="only these, from 0"
    )
    parser.add_argument("--pairs", nargs="+", metavar="SET:NETWORK", help="only these")
    parser.add_argument("--seconds", type=float, default=1e9, help="start no run after this time")
    parser.add_argument("--report", action="store_true", help="only the tables")
    options = parser.parse_args()
    if not options.report:
        os.environ.setdefault("XDG_CACHE_HOME", str(options.out.absolute() / "cache"))
        work(options)
    print("\n".join(report(judged(options.out))))


def work(options: argparse.Namespace) -> None:
    """Measure and run what is not there yet, until the time is over."""
    import torch

    from ftrun.runs.terminal import logged
    from ftrun.runs.warm import shared

    torch.set_num_threads(1)
    pairs = [pair for pair in PAIRS if not options.pairs or ":".join(pair) in options.pairs]
    end, file = time.monotonic() + options.seconds, options.out / "runs.jsonl"
    with shared():
        for run in planned((ROUNDS[at] for at in options.rounds), pairs):
            if time.monotonic() > end:
                return
            prepare(options.data, options.out, run.case)
            begin, words = time.process_time(), words_of(run.case, run.seed, options)
            with logged(options.out / f"log-{os.getpid()}.txt"):
                measure(options.out, run, words)
                if run in {known for known, _ in made(file)}:
                    continue
                right = answered([*words, *WAYS[run.way]], options.out / "runs" / run.name)
            seconds = round(time.process_time() - begin, 1)
            add(file, {"run": asdict(run), "right": right, "cpu": seconds})
            print(f"{run.name}: {score(right):.1f} in {seconds} s", flush=True)


def planned(rounds: Iterable[tuple[int, int]], pairs: list[tuple[str, str]]) -> Iterator[Run]:
    """Every run of the rounds, in their order and within one in that of the pairs."""
    for rows, seed in rounds:
        for data, network in pairs:
            case = Case(data, network, min(rows, MOST.get(data, rows)))
            for way in ways_of(case):
                yield Run(case, way, seed)


def ways_of(case: Case) -> list[str]:
    """Those of every case, and what the article advises where the network may be far or the labels many."""
    if case.network in RANDOM:
        return RANDOM[case.network]
    far, many = (case.data, case.network) in FAR, case.rows >= 2 * MANY
    return [*EVERYWHERE, *(["freeze middle"] if far else []), *(["full, decay"] if many else [])]


def words_of(case: Case, seed: int, options: argparse.Namespace) -> list[str]:
    """The settings of a case but for the way."""
    place = (options.out / "data" / case.data).absolute()
    files = [f"task.{split}={place / f'{split}.csv'}" for split in ("train", "validation", "test")]
    own = OWN.get(case.data, ["task=classify", f"task.name={case.data}", *files])
    task = [word.replace("DATA", str(options.data)) for word in own]
    made_here = {name: (options.out / "networks" / name / "model").absolute() for name in MADE}
    places = {"minilm": options.minilm, **made_here}
    model = f"model.name={places[case.network]}" if case.network in places else f"model={case.network}"
    rows = case.rows if case.rows < MOST.get(case.data, case.rows + 1) else "null"
    return [*task, model, f"task.subset={rows}", f"seed={seed}", "device=cpu", "baselines=false"]


def measure(out: Path, run: Run, words: list[str]) -> None:
    """What `advise` measures of the rows of a run, where it is not there yet."""
    from ftrun.commands.advise import LIKE
    from ftrun.experiments.advice import examined
    from ftrun.experiments.overrides import settings_of
    from ftrun.settings.read import read

    file = out / "measured.jsonl"
    if (run.case, run.seed) not in {key for key, _ in measured(file)}:
        found, _ = examined("advise", read(settings_of(words)), LIKE)
        add(file, {"case": asdict(run.case), "seed": run.seed, "evidence": found and asdict(found)})


def answered(words: list[str], place: Path) -> str:
    """For each test row of a run 1 or 0, whether it is answered right; a run that was ended is continued."""
    from ftrun.experiments.making import one
    from ftrun.experiments.overrides import settings_of

    one(settings_of(words), place, again=True)
    lines = (place / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
    shutil.rmtree(place)
    rows = [json.loads(line) for line in lines]
    return "".join(str(int(row["answer"] == row["label"])) for row in rows)


def prepare(source: Path, out: Path, case: Case) -> None:
    """The files of a set, and a network that is pretrained here, where they are not there yet."""
    from ftrun.experiments.making import one
    from ftrun.experiments.overrides import settings_of
    from ftrun.runs.terminal import logged

    place, network = out / "data" / case.data, out / "networks" / case.network
    if case.data in SETS and not place.exists():
        parts = pooled(list(SETS[case.data](source, case.data)))
        place.mkdir(parents=True)
        for split, rows in parts.items():
            with (place / f"{split}.csv").open("w", encoding="utf-8", newline="") as file:
                csv.writer(file).writerows([("text", "label"), *rows])
    if case.network in MADE and not (network / "result.json").exists():
        with logged(out / f"{case.network}.txt"):
            one(settings_of([*MADE[case.network], "strategy=full", "device=cpu"]), network, again=True)


def judged(out: Path) -> list[Judged]:
    """The cases with all of their ways measured, of the seeds that have all, and what is advised for each."""
    from ftrun.commands.advise import CUT, HARDER
    from ftrun.experiments.advice import advise

    runs: dict[Case, dict[int, dict[str, str]]] = defaultdict(lambda: defaultdict(dict))
    for run, right in made(out / "runs.jsonl"):
        runs[run.case][run.seed][run.way] = right
    known, cases = dict(measured(out / "measured.jsonl")), []
    for case, seeds in sorted(runs.items()):
        whole = [
            seed for seed in sorted(seeds) if {*ways_of(case)} <= {*seeds[seed]} and (case, seed) in known
        ]
        if whole:
            ways = {way: [seeds[seed][way] for seed in whole] for way in ways_of(case)}
            found = [known[case, seed] for seed in whole]
            advised = [advise(each, CUT, HARDER) for each in found]
            labels = None if found[0] is None else found[0].labels_per_class
            cases.append(Judged(
                case.data, case.network, case.rows, labels, ways,
                [way_of(each.settings) for each in advised], [each.close for each in advised],
            ))  # fmt: skip
    return cases


def way_of(settings: list[str]) -> str:
    return next(way for way, words in WAYS.items() if words == settings)


if __name__ == "__main__":
    sys.exit(main())
