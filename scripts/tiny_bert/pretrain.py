"""Makes tiny_bert: corpus, vocabulary, the larger encoder's vectors, one training run of a given time."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch

import ftrun
from tiny_bert import card, network, prepared
from tiny_bert.probe import probe
from tiny_bert.training import Training

START = time.monotonic()
ENDING = 8  # of the seconds, to save


def main() -> None:
    options = arguments()
    if options.publish:
        assets = Path(ftrun.__file__).parent / "assets" / "tiny_bert"
        network.publish(options.publish, assets, card.card(options.publish))
        return
    out = options.out or options.work / "trained"
    out.mkdir(parents=True, exist_ok=True)
    (out / "curve.jsonl").unlink(missing_ok=True)  # of a run before
    torch.set_num_threads(options.threads)
    rows = prepared.labelled(options.work)
    text = prepared.corpus(options.work)
    pieces = prepared.tokenizer(options.work, text.texts)
    run = Training(text, pieces, options.teacher, torch.device(options.device), options.pairs, options.seed)
    say(f"{len(run.views.texts)} texts known to the teacher", START)
    end = START + options.seconds - ENDING
    if time.monotonic() >= end:
        raise SystemExit(f"no time is left to train: --seconds={options.seconds:g} is too little here")
    facts = {"words": text.words, "left_out": text.left_out, "device": card.device_name(run.device)}
    try:
        run.train(end, out / "curve.jsonl")
    finally:  # whatever ended it
        network.save(run.model, pieces, out)
        facts |= {"seconds": round(time.monotonic() - START), "pairs": options.pairs}
        (out / "facts.json").write_text(json.dumps(facts))
        say(f"saved in {out}", START)
    held_out = {name: rows[name] for name in ("validation", "test")}
    found: dict[str, float] = {}
    for right in probe(run.model.float().bert, pieces, rows["train"], held_out):
        found |= right
        (out / "probe.json").write_text(json.dumps(found))
        say(f"right, by split and examples per class: {right}", START)


def say(line: str, start: float) -> None:
    """The line with the seconds since the start."""
    print(f"{time.monotonic() - start:6.1f} s  {line}", flush=True)


def arguments() -> argparse.Namespace:
    """Of the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("outputs/tiny_bert"), help="all in between")
    parser.add_argument("--out", type=Path, help="default: trained, in the work folder")
    parser.add_argument("--publish", type=Path, metavar="OUT", help="only make it ftrun's own, with its card")
    parser.add_argument("--seconds", type=float, default=190, help="in all, up to the saved network")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--teacher", type=Path, help="a directory; default: the installed package")
    parser.add_argument("--pairs", type=int, default=512, help="in a batch")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    return parser.parse_args()


if __name__ == "__main__":
    main()
