"""Runs on the disk: what `ls` and `watch` tell of them, and what `clean` removes and what it leaves."""

import json
import os
import shutil
import time
from pathlib import Path

import pytest
from lab import ran, settings

from ftrun.commands import clean, ls
from ftrun.reports.pages.terminal import STYLES
from ftrun.reports.upkeep import listing, watching
from ftrun.reports.upkeep.listing import age, bytes_of
from ftrun.reports.upkeep.removable import removable
from ftrun.reports.upkeep.watching import BARS, Watch, curve, share
from ftrun.runs.run import Run

WORDS = "task=digits", "model=mlp", "train.max_steps=4", "train.eval_every=2", "baselines=false", "device=cpu"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return ran(tmp_path_factory.mktemp("upkeep") / "finished", settings(*WORDS)).path


@pytest.fixture
def runs(finished, tmp_path):
    """A finished run, an older failed one, an interrupted one and a damaged one."""
    top = tmp_path / "outputs"
    for name in ("finished", "failed", "interrupted", "damaged"):
        shutil.copytree(finished, top / name)
        if name in ("failed", "interrupted"):
            (top / name / "result.json").unlink()
        if name != "finished":
            shutil.rmtree(top / name / "model")
    (top / "failed" / "failure.json").write_text(json.dumps({"message": "no room", "exit_code": 1}))
    (top / "damaged" / "result.json").write_text("[")
    for number, name in enumerate(("interrupted", "finished", "damaged", "failed")):
        for file in ("metrics.jsonl", "result.json"):
            if (top / name / file).is_file():
                os.utime(top / name / file, (time.time() - 100 * number,) * 2)
    return top


def test_every_run_is_listed_the_latest_first(runs, ftrun_inprocess):
    lines = [json.loads(line) for line in ftrun_inprocess("ls", "--json").stdout.splitlines()]
    states = {Path(line["path"]).name: line["state"] for line in lines}
    assert [*states] == ["interrupted", "finished", "damaged", "failed"]
    assert all(name == state for name, state in states.items()) and {*ls.STATES} == {*STYLES}
    by_name = dict(zip(states, lines, strict=True))
    result = Run.open(runs / "finished").read_json("result.json")
    assert by_name["finished"]["test_score"] == result["test_accuracy"]
    assert by_name["finished"]["bytes"] > by_name["failed"]["bytes"] > 0
    out = ftrun_inprocess("ls").stdout
    assert f"{100 * result['test_accuracy']:.1f} %" in out and "4 runs, " in out
    assert "no room" in out and "result.json is damaged" in out
    by_size = ftrun_inprocess("ls", "--sort", "size", "--state", "failed", "--state", "finished").stdout
    assert by_size.index("outputs/finished") < by_size.index("outputs/failed") and "2 runs" in by_size
    assert "of 4" in by_size and "interrupted" not in by_size


@pytest.mark.parametrize("command", ["ls", "watch", "clean"])
def test_what_is_no_directory_of_runs_is_one_line(ftrun_inprocess, command):
    wrong = ftrun_inprocess(command, "nowhere", check=False)
    assert wrong.returncode == 2 and "nowhere is not a directory" in wrong.stderr


def test_the_best_score_comes_first_whatever_its_direction():
    def run(name, metric, test, validation=None):
        return listing.Listed(name, "finished", 0.0, 0, "", 1, metric, test, validation)

    some = [run("none", None, None), run("worse", "loss", 2.0), run("better", "loss", 1.0)]
    some += [run("low", "accuracy", 0.5), run("high", "accuracy", None, 0.9)]
    found = [one.path for one in listing.chosen(some, [], "score")]
    assert found == ["high", "low", "better", "worse", "none"]
    assert some[4].score() == "90.0 % (validation)" and some[3].score() == "50.0 %" and some[0].score() == ""


def test_a_file_of_two_names_takes_its_bytes_once(tmp_path):
    (tmp_path / "a").write_bytes(bytes(100_000))
    once = bytes_of([tmp_path])
    os.link(tmp_path / "a", tmp_path / "b")
    assert bytes_of([tmp_path]) == once >= 100_000
    shutil.copy(tmp_path / "a", tmp_path / "c")
    assert bytes_of([tmp_path]) == 2 * once and bytes_of([tmp_path / "c"]) == once
    assert bytes_of([tmp_path / "gone"]) == 0


def test_an_age_is_in_the_largest_unit_that_tells_it():
    found = [age(seconds) for seconds in (-1, 90, 300, 7300, 200_000)]
    assert found == ["0 s", "90 s", "5 min", "2 h", "2 d"]


def test_clean_shows_and_removes_nothing_until_it_is_told(runs, ftrun_inprocess):
    before = {path: path.stat().st_size for path in runs.rglob("*") if path.is_file()}
    out = ftrun_inprocess("clean", "--list").stdout
    assert "checkpoints of finished runs (1)" in out and "outputs/finished/checkpoints" in out
    assert "nothing was removed: add --yes" in out and "failed" not in out
    assert before == {path: path.stat().st_size for path in runs.rglob("*") if path.is_file()}
    ftrun_inprocess("clean", "--yes")
    gone = {path for path in before if not path.exists()}
    assert gone == {path for path in before if path.is_relative_to(runs / "finished" / "checkpoints")}
    assert "nothing to remove in outputs" in ftrun_inprocess("clean", "--yes").stdout
    ftrun_inprocess("clean", "--yes", "--failed")
    assert {path.name for path in runs.iterdir()} == {"finished", "interrupted", "damaged"}


def test_clean_names_what_it_could_not_remove_and_fails(runs, monkeypatch, capsys):
    monkeypatch.setattr("ftrun.reports.upkeep.removable.shutil.rmtree", lambda place, **how: None)
    assert clean.main(["--yes", str(runs)]) == 1
    place = runs / "finished" / "checkpoints"
    assert place.is_dir()
    assert capsys.readouterr().out.endswith(f"removed 0 B\nleft, in use or not writable: {place}\n")


def test_a_finished_run_without_checkpoints_predicts_and_is_resumed_to_the_same(
    runs, ftrun_inprocess, finished
):
    ftrun_inprocess("clean", "--yes")
    own = runs / "finished"
    assert "accuracy" in ftrun_inprocess("evaluate", str(own)).stdout
    ftrun_inprocess("resume", str(own))
    words = "task=digits", "model=mlp", "source=run", f"source.run={own}", "train.max_steps=1"
    ran(runs.parent / "next", settings(*words, "baselines=false", "device=cpu"))
    assert (own / "result.json").read_bytes() == (finished / "result.json").read_bytes()


def test_what_another_process_makes_is_left_alone(runs):
    [failed] = [one for one in removable([runs / "failed"], failed=True, caches=False)]
    other = Run(runs / "failed")
    other.hold()
    assert not failed.remove() and (runs / "failed" / "config.yaml").is_file()
    other.release()
    assert failed.remove() and not (runs / "failed").exists()


def test_caches_go_where_nobody_has_used_them_lately(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    place = tmp_path / "ftrun" / "tokens"
    place.mkdir(parents=True)
    for name, old in (("old", 1000), ("new", 0)):
        (place / name).write_text("tokens")
        os.utime(place / name, (time.time() - old,) * 2)
    found = removable([], failed=False, caches=True)
    assert [one.place.name for one in found] == ["old"]
    assert found[0].remove() and not (place / "old").exists() and (place / "new").exists()


def test_a_watched_run_is_read_again_while_it_trains_only(runs, monkeypatch):
    seen = []
    honest = watching.watched
    monkeypatch.setattr(watching, "watched", lambda *words: seen.append(words[0].name) or honest(*words))
    watch = Watch([str(runs)])
    first = watch.look()
    assert [Path(run.path).name for run in first] == ["interrupted", "finished", "damaged", "failed"]
    other = Run(runs / "interrupted")
    other.hold()
    with (runs / "interrupted" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 9, "epoch": 0.5, "train_loss": 0.25}\n')
    del seen[:]
    again = {Path(run.path).name: run for run in watch.look()}
    assert seen == ["interrupted"] and again["interrupted"].state == "running"
    assert again["interrupted"].step == 9 and again["interrupted"].loss[-1] == 0.25
    assert again["finished"].scores and again["finished"].share is None
    watch.look()
    assert seen == ["interrupted"] * 2
    other.release()


def test_watching_into_a_pipe_shows_the_runs_once(runs, ftrun_inprocess):
    out = ftrun_inprocess("watch").stdout
    assert "outputs/finished" in out and "accuracy" in out and "no room" in out
    assert ftrun_inprocess("watch", "--every", "0", check=False).returncode == 2


@pytest.mark.parametrize(
    "train, expected",
    [
        ({"max_steps": 20, "epochs": 8}, 0.5),
        ({"max_steps": None, "epochs": 8}, 0.25),
        ({"max_steps": None, "epochs": "auto"}, None),
        ({"max_steps": 5, "epochs": 1}, 1.0),
    ],
)
def test_how_far_a_run_is_follows_from_its_settings(train, expected):
    lines = [{"step": 4, "epoch": 1.0}, {"step": 10, "epoch": 2.0}, {"step": 10, "test_loss": 1.0}]
    assert share(lines, train) == expected and share([], train) is None


def test_a_curve_goes_from_the_least_to_the_most():
    assert curve([0, 1, 2, 3, 4, 5, 6, 7], BARS[True]) == BARS[True]
    assert curve([7, 0, float("nan")], BARS[False]) == "#_" and curve([], BARS[True]) == ""
    assert curve([2, 2, 2], BARS[True]) == "▁▁▁"
    assert curve([0, 0, 1, 1] * 1, "ab", width=2) == "ab"  # means of two each
    assert len(curve(range(1000), BARS[True])) == watching.WIDTH


def test_more_runs_than_there_is_room_for_are_counted():
    some = [watching.Watched(str(number), "finished", 0.0) for number in range(9)]
    assert len(watching.as_table(some, BARS[True], 9).rows) == 9
    table = watching.as_table(some, BARS[True], 4)
    assert len(table.rows) == 4 and [*table.columns[0].cells][-1] == "and 6 runs more"
