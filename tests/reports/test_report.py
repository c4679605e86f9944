"""ftrun report: what differs, what it scored, what is unfinished; for people and for spreadsheets."""

from __future__ import annotations

import csv
import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ftrun.commands.report import main
from ftrun.errors import ConfigError, UserError
from ftrun.reports.diagnosing.forgetting import forgetting_line
from ftrun.reports.numbers import count, duration, score, share, size
from ftrun.reports.pages.run_page import show_result
from ftrun.reports.verdicts.single import baseline_warnings, warnings_of
from ftrun.runs.run import Run

LORA = {"rank": 8, "targets": ["query", "value"]}
TRAINED = {"lora": 73728, "full": 2183435}


def make(path: Path, strategy: str = "lora", seed: int = 0, lr: float = 5e-3, **own: Any) -> Run:
    config = {
        "seed": seed, "device": "auto", "tracker": "none", "strategy": strategy,
        "schedule": {"name": "linear"}, "task": {"kind": "classify", "name": "docstrings"},
        "model": {"name": "embedded:tiny_bert"}, "train": {"lr": lr, "metric": None},
        **((LORA | own) if strategy == "lora" else own),
    }  # fmt: skip
    run = Run.create(path, config)
    run.log({"step": 100, "train_loss": 1.2})
    run.log({"step": 120, "eval_loss": 1.1, "eval_accuracy": 0.6})
    run.release()
    return run


def finish(run: Run, test: float | None = 0.61, **scores: Any) -> Run:
    cost = {"seconds": 72.3, "cpu_seconds": 130.5, "tokens_per_second": 12345.6, "device": "cpu"}
    run.write_json("cost.json", cost | {"memory_bytes": 812_345_678})
    trained = {"trained_parameters": TRAINED[run.config["strategy"]], "total_parameters": 2183435}
    result = {
        "best_step": 80,
        "eval_loss": 1.0,
        "eval_accuracy": 0.62,
        "test_accuracy": test,
        "test_loss": 1.125,
    }
    run.write_json("result.json", trained | result | scores)
    return run


@pytest.fixture
def outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two ranks with three seeds each, one full, one failed, one killed."""
    monkeypatch.chdir(tmp_path)
    tests = [0.50, 0.52, 0.54, 0.60, 0.60, 0.60]
    for number, test in enumerate(tests):
        run = make(Path(f"outputs/sweep/{number}-lora"), seed=number % 3, rank=4 if number < 3 else 8)
        finish(run, test)
    finish(make(Path("outputs/full"), "full", lr=1e-4), 0.7)
    failed = make(Path("outputs/failed"), "full", lr=1e-1)
    failed.write_json("failure.json", {"message": "the loss is not finite at step 121", "exit_code": 5})
    make(Path("outputs/killed"), "linear_probe")
    return Path("outputs")


def report(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main([str(argument) for argument in arguments]) == 0
    return capsys.readouterr().out


def table(text: str) -> list[list[str]]:
    return [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")
    ]


def test_markdown_has_runs_and_means(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = report(capsys, outputs, "--format", "markdown")
    assert text.startswith("9 runs in outputs · 7 finished · task docstrings · model tiny_bert · metric")
    lines = table(text)
    assert lines[0] == "run strategy seed trained share test eval step time tokens/s memory state".split()
    cells = "sweep/1-lora|lora rank=4|1|73.7 k|3.38 %|52.0 %|62.0 %|80|72 s|12.3 k|812 MB|finished"
    assert cells.split("|") in lines
    assert "failed|full lr=0.1|0||||60.0 %|120||||failed".split("|") in lines
    assert "killed|linear_probe|0||||60.0 %|120||||interrupted".split("|") in lines
    assert "lora rank=4|3|73.7 k|3.38 %|52.0 ± 2.0 %|62.0 ± 0.0 %|72 s|12.3 k|812 MB".split("|") in lines
    assert "lora rank=8|3|73.7 k|3.38 %|60.0 ± 0.0 %|62.0 ± 0.0 %|72 s|12.3 k|812 MB".split("|") in lines
    assert len(lines) == 2 + 9 + 2 + 2


def test_csv_has_raw_numbers_and_the_settings_that_differ(
    outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = list(csv.DictReader(io.StringIO(report(capsys, outputs, "--format", "csv"))))
    first = next(row for row in rows if row["run"] == "outputs/sweep/0-lora")
    expected = {
        "state": "finished", "rank": "4", "train.lr": "0.005", "trained_parameters": "73728",
        "test_score": "0.5", "test_loss": "1.125", "cpu_seconds": "130.5", "targets": "['query', 'value']",
        "memory_bytes": "812345678",
    }  # fmt: skip
    assert {key: first[key] for key in expected} == expected
    assert "schedule.name" not in first
    failed = next(row for row in rows if row["run"] == "outputs/failed")
    assert (failed["failure"], failed["test_score"]) == ("the loss is not finite at step 121", "")
    assert len(rows) == 9


def test_what_a_sequence_holds_is_no_source_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The task before is the source of each, so that a source= beside sequence= names nothing."""
    known = {"kind": "pretraining", "text": "embedded:docstrings", "rows": 200}
    for name, kind in {"lora": known, "full": {"kind": "none"}}.items():
        tasks = {"sequence": ["low", "high"], "source": kind}
        finish(make(tmp_path / name, name, **tasks), sequence=["low", "high"])
    finish(make(tmp_path / "one", "full", source=known))
    for form in ("table", "csv"):
        lines = report(capsys, tmp_path / "lora", tmp_path / "full", "--format", form)
        assert "low → high" in lines and "source" not in lines and "embedded:docstrings" not in lines
    own = {"sequence": None, "source": {"kind": "none"}}
    finish(make(tmp_path / "plain", "full", **own))
    assert "full, source=pretraining" in report(capsys, tmp_path / "one", tmp_path / "plain")


@pytest.mark.parametrize("width", [80, 100, 120])
def test_the_terminal_table_fits(
    width: int, outputs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    text = report(capsys, outputs)
    lines = text.splitlines()
    runs = [line for line in lines if "lora rank=" in line]
    assert len(runs) == 6 + 2, text
    assert all(len(line.rstrip()) <= width for line in runs)
    assert "50.0 %" in runs[0]
    assert "failed failed: the loss is not finite at step 121" in lines
    assert "killed was interrupted; to continue: ftrun resume outputs/killed" in lines
    assert ("columns that do not fit: step" in text) == (width < 120)
    assert "\x1b" not in text


def test_long_run_names_are_cut_where_they_are_still_told_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("16-30-12-lora-123456", "16-30-12-lora-654321", "17-00-00-sweep-000000/0-lora"):
        finish(make(tmp_path / "outputs-of-a-project" / name))
    monkeypatch.setenv("COLUMNS", "80")
    text = report(capsys, tmp_path)
    assert "16-30-12-lora-1…" in text
    assert "17-00-00-sweep-…/0-lora" in text


def test_brackets_are_no_markup(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finish(make(tmp_path / "[red]", targets=["query"]))
    finish(make(tmp_path / "b"))
    text = report(capsys, tmp_path)
    assert "[red]" in text
    assert "lora targets=[query]" in text


def test_scores_sort_best_first_and_what_is_missing_last(
    outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tests = [row[5] for row in table(report(capsys, outputs, "--sort", "test", "--format", "markdown"))[2:11]]
    assert tests == ["70.0 %", "60.0 %", "60.0 %", "60.0 %", "54.0 %", "52.0 %", "50.0 %", "", ""]
    finish(Run.open(outputs / "sweep" / "2-lora"), 0.5, test_loss=0.5)
    names = [
        row[0] for row in table(report(capsys, outputs, "--sort", "test_loss", "--format", "markdown"))[2:11]
    ]
    assert names[0] == "sweep/2-lora"


@pytest.mark.parametrize("metric", ["alignment", "uniformity", "negative_similarity", "loss", "mae"])
def test_the_lowest_value_sorts_first_where_less_is_better(
    metric: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in (("high", 0.9), ("low", 0.1)):
        scores = {f"test_{metric}": value, f"eval_{metric}": value}
        run = finish(make(tmp_path / name), **scores)
        run.write_json("result.json", (run.read_json("result.json") or {}) | {"metric": f"eval_{metric}"})
    for column in ("test", f"eval_{metric}"):
        lines = table(report(capsys, tmp_path, "--sort", column, "--format", "markdown"))
        assert [line[0] for line in lines[2:4]] == ["low", "high"]


def test_an_unknown_column_is_refused(outputs: Path) -> None:
    with pytest.raises(ConfigError, match="--sort tset: no such column; did you mean 'test'?"):
        main([str(outputs), "--sort", "tset"])


@pytest.mark.parametrize(
    ("name", "start"), [("a.csv", "run,state,"), ("a.md", "9 runs in "), ("a.txt", "9 runs in ")]
)
def test_a_file_is_written_as_it_ends(
    name: str, start: str, outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report(capsys, outputs, "--output", name) == f"saved: {name}\n"
    assert Path(name).read_text(encoding="utf-8").startswith(start)


@pytest.mark.parametrize("form", ["table", "markdown", "html"])
def test_runs_without_a_result_are_counted_apart(
    form: str, outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """So that the page of an interrupted study is not at odds with its own end, which has finished ones."""
    assert "9 runs in outputs · 7 finished · " in report(capsys, outputs, "--format", form)
    assert "finished ·" not in report(capsys, outputs / "sweep", "--format", form)


def test_plots_are_said_where_standard_output_is_for_people(
    outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report(capsys, outputs, "--plots", "p").splitlines()[-1] == "saved: p"
    assert "saved" not in report(capsys, outputs, "--plots", "p", "--format", "html")
    assert report(capsys, outputs, "--plots", "p", "--output", "a.html") == "saved: a.html and p\n"
    assert report(capsys, outputs, "--plots", "p", "--output", "a.csv") == "saved: a.csv\n"


def test_a_file_that_cannot_be_written_is_one_line(outputs: Path) -> None:
    with pytest.raises(UserError, match=r"cannot write .*gone/a.csv: No such file or directory"):
        main([str(outputs), "--output", "gone/a.csv"])


def test_wrong_words_are_refused_in_one_line(outputs: Path) -> None:
    with pytest.raises(ConfigError, match="report: --format pdf: possible: table, markdown, html, csv"):
        main([str(outputs), "--format", "pdf"])
    with pytest.raises(ConfigError, match="report: the following arguments are required: DIR"):
        main([])


def test_no_runs_names_the_directory(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"no runs in {tmp_path}"):
        main([str(tmp_path)])


def test_a_damaged_run_is_listed_as_such(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (outputs / "full" / "result.json").write_text("{")
    (outputs / "killed" / "config.yaml").write_text("lr: 1\n")
    rows = list(csv.DictReader(io.StringIO(report(capsys, outputs, "--format", "csv"))))
    assert [row["state"] for row in rows].count("damaged") == 2 and len(rows) == 9
    said = next(row["failure"] for row in rows if row["run"] == "outputs/full")
    assert said.startswith("outputs/full/result.json is damaged")
    text = report(capsys, outputs)
    assert text.startswith("\n9 runs in outputs · 6 finished · task docstrings · model tiny_bert · metric")
    assert "\ndamaged: outputs/killed/config.yaml is no configuration of ftrun: it lacks seed, " in text
    with pytest.raises(UserError, match="the only run in outputs/full cannot be read: outputs/full/result"):
        main(["outputs/full"])


def test_the_same_seed_twice_is_no_second_seed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, seed in (("a", 0), ("b", 0)):
        finish(make(tmp_path / name, seed=seed))
    assert "±" not in report(capsys, tmp_path, "--format", "markdown")
    finish(make(tmp_path / "c", seed=1), 0.63)
    lines = table(report(capsys, tmp_path, "--format", "markdown"))
    assert lines[-1][:5] == ["lora", "2", "73.7 k", "3.38 %", "62.0 ± 1.4 %"]


def test_a_score_that_was_not_a_number_is_empty(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finish(make(tmp_path / "a"), float("nan"))
    finish(make(tmp_path / "b", seed=1))
    lines = table(report(capsys, tmp_path, "--format", "markdown"))
    assert [line[lines[0].index("test")] for line in lines[2:4]] == ["", "61.0 %"]
    assert lines[4][:4] == ["strategy", "seeds", "trained", "share"]
    assert "test" not in lines[4]
    assert "62.0 ± 0.0 %" in lines[6]


def test_the_end_of_an_experiment(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    show_result(finish(make(Path("outputs/first"))))
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert lines == [
        "lora rank=8 targets=[query,value] · docstrings · tiny_bert · seed 0",
        "eval test",
        "accuracy 62.0 % 61.0 %",
        "loss 1.000 1.125",
        "trained 73,728 of 2,183,435 weights (3.38 %)",
        "best step 80",
        "time 72 s on cpu · 12.3 k tokens/s · peak memory 812 MB",
        "run outputs/first",
        "compare: ftrun report outputs",
        "use: ftrun predict outputs/first --input FILE --output FILE",
    ]


def test_words_for_numbers() -> None:
    assert [share(value) for value in (1.0, 0.0338, 0.000673)] == ["100 %", "3.38 %", "0.0673 %"]
    assert [count(value) for value in (0, 512, 999.6, 73728, 2.18e6)] == [
        "0",
        "512",
        "1 k",
        "73.7 k",
        "2.18 M",
    ]
    assert [size(value) for value in (12, 812_345_678, 1.25e9)] == ["12 B", "812 MB", "1.25 GB"]
    assert [duration(value) for value in (8.24, 72, 245, 7500)] == ["8.2 s", "72 s", "4:05 min", "2:05 h"]
    assert score(0.844, "accuracy", 0.003) == "84.4 ± 0.3 %"
    assert [score(12.345, "perplexity"), score(1e-4, "loss"), score(None, "f1")] == ["12.345", "0.0001", ""]


def test_a_report_imports_nothing_heavy(outputs: Path) -> None:
    code = (
        "import sys; from ftrun.commands.report import main; main(['outputs']);"
        "sys.exit(bool({'torch', 'omegaconf', 'hydra', 'transformers'} & set(sys.modules)))"
    )
    environment = {"PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONIOENCODING": "utf-8"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, stdout=subprocess.DEVNULL)


def test_one_row_that_leaked_is_one() -> None:
    leak = {"split": "test", "other": "train", "unit": "sentences", "rows": 1, "of": 300}
    card = {"leaks": [leak, leak | {"rows": 2, "relation": "of a who that is also in"}]}
    assert warnings_of({"metric": "f1", "test_score": 0.5}, card) == [
        ("LEAK", "1 of 300 test sentences is also in train"),
        ("LEAK", "2 of 300 test sentences are of a who that is also in train"),
    ]


def test_a_baseline_that_is_not_beaten_is_a_warning_with_its_score() -> None:
    row = {"metric": "accuracy", "test_score": 0.603, "config": {"task": {}}}
    found = {"majority": {"test_accuracy": 0.61}, "tfidf": {"test_accuracy": 0.752}}
    assert baseline_warnings(row, found) == [
        "no better than always answering the most frequent label on the test split "
        "(accuracy 60.3 % against 61.0 %)",
        "TF-IDF beats this model on the test split (accuracy 75.2 % against 60.3 %)",
    ]
    assert baseline_warnings(row | {"test_score": 0.8}, found) == []
    rare = {"metric": "accuracy", "test_score": 0.97, "config": {"task": {"balance": "none"}}}
    common = {"majority": {"test_accuracy": 0.97}}
    (line,) = baseline_warnings(rare, common)
    assert line.endswith(
        "(accuracy 97.0 % against 97.0 %); for rare labels: task.balance=weights train.metric=f1"
    )
    for other in (
        row,
        rare | {"config": {"task": {"balance": "weights"}}},
        rare | {"config": {"task": {"name": "ner"}}},
    ):
        (line,) = baseline_warnings(other | {"test_score": 0.603}, {"majority": {"test_accuracy": 0.97}})
        assert line.endswith("against 97.0 %)")
    (line,) = baseline_warnings(row | {"test_score": 0.752}, found)
    assert line == "TF-IDF matches this model on the test split (accuracy 75.2 % against 75.2 %)"
    errors = {"tfidf": {"test_mae": 0.5}}
    assert baseline_warnings({"metric": "mae", "test_score": 0.4}, errors) == []
    assert len(baseline_warnings({"metric": "mae", "test_score": 0.6}, errors)) == 1


def test_what_became_of_an_earlier_task_in_words() -> None:
    def line(name: str, metric: str, before: float, after: float) -> str:
        return forgetting_line(
            {"name": name, "metric": metric, "before": {metric: before}, "after": {metric: after}}
        )

    assert line("pretraining", "loss", 2.0, 2.134) == "pre-training loss rose by 0.134 (2.000 → 2.134)"
    assert (
        line("reviews", "accuracy", 0.8, 0.75) == "accuracy on reviews fell by 5.0 points (80.0 % → 75.0 %)"
    )
    assert line("reviews", "accuracy", 0.8, 0.8) == "accuracy on reviews is unchanged (80.0 %)"


def test_a_weak_gauge_of_forgetting_says_how_weak_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def source(share: float, fitted: bool = True) -> dict[str, Any]:
        found = {"fitted": fitted, "uniform_loss": 10.326, "share": share}
        known = {"name": "pretraining", "metric": "loss", "gauge": found}
        return known | {"before": {"loss": 6.19}, "after": {"loss": 6.33}}

    plain = "pre-training loss rose by 0.140 (6.190 → 6.330)"
    assert forgetting_line(source(0.49)) == plain
    assert forgetting_line(source(0.6)) == (
        f"{plain}; a weak gauge, for the head fitted on the frozen network had 60 % of the loss of a uniform"
        " guess (10.3 nats) before training"
    )
    assert "for the checkpoint's head had 60 %" in forgetting_line(source(0.6, fitted=False))
    alone = source(0.6) | {"drift": {"cka": None, "neighbours": None, "cosine": 1.0}}  # one example
    assert forgetting_line(alone) == forgetting_line(source(0.6))
    run = make(tmp_path / "a")
    drift = [{"cka": 1.0, "neighbours": 1.0, "cosine": 1.0}, {"cka": 0.39, "neighbours": 0.41, "cosine": 0.9}]
    finish(run, forgetting=0.14, sources=[source(0.6)], drift=drift)  # type: ignore[arg-type]
    show_result(run)
    shown = " ".join(capsys.readouterr().out.split())
    assert "; without a head: CKA of the last layer 0.39, 41 % of the nearest neighbours kept" in shown
    assert "0.140 (weak gauge)" in report(capsys, tmp_path / "a", "--format", "markdown")
