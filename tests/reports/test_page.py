"""The report as it is seen: nothing cut or padded in a terminal or a pipe, a page for every screen."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import matplotlib
import pytest
from finished import finished
from matplotlib.figure import Figure
from matplotlib.text import Text
from rich.console import Console

from ftrun.commands.report import main
from ftrun.reports.groups import groups_of
from ftrun.reports.pages.page import Plot, Section, as_markdown, sections_of
from ftrun.reports.pages.terminal import on_terminal
from ftrun.reports.pages.webpage import as_html, title_of
from ftrun.reports.plots import calibration, drawing, training
from ftrun.reports.plots.drawing import FEW, PANELS, folded
from ftrun.reports.plots.scores import scores
from ftrun.reports.study import Group
from ftrun.reports.table import put, rows_of

VOID = {"meta", "img", "br"}


def many(path: Path, count: int) -> Path:
    """Studies with long names that differ in their ranks, from the worst to the best."""
    for number in range(count):
        targets = ["query", "key", "value"] if number % 2 else ["query", "value"]
        finished(
            path / f"{number}-lora", "lora", accuracy=0.5 + 0.04 * number, rank=number + 1, targets=targets
        )
    return path


def group_of(path: Path) -> Group:
    (group,), _ = groups_of(rows_of([str(path)]))
    return group


def report(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main([str(argument) for argument in arguments]) == 0
    return capsys.readouterr().out


def test_a_pipe_is_as_wide_as_what_it_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    text = report(capsys, many(tmp_path, 3))
    lines = text.splitlines()
    assert not [line for line in lines if line != line.rstrip()]
    rules = [line for line in lines if "──" in line]
    assert len(rules) == 2 and max(map(len, rules)) < 160
    assert "columns that do not fit" not in text and "\x1b" not in text
    sentence = next(line for line in lines if "do not differ" in line or "is better than" in line)
    assert sentence.endswith((")", "decide", "resolve", "equal")) or "p = " in sentence  # on one line


@pytest.mark.parametrize("width", [80, 100, 160])
def test_nothing_is_cut_in_a_terminal(
    width: int, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    group = group_of(many(tmp_path, 8))
    text = report(capsys, tmp_path)
    tables = text[: text.index("Pairwise")]
    assert max(map(len, tables[tables.index("with 95 %") :].splitlines())) <= width
    assert "…" not in tables[tables.index("with 95 %") :]
    assert tables[tables.index("with 95 %") :].count("targets=[query,value]") >= 4  # on one line
    titles = re.split(r"\s{2,}", next(line for line in tables.splitlines() if " score" in line).strip())
    cells = {title: [] for title, _ in sections_of(group)[1].columns}
    left_out = re.findall(r"columns that do not fit: (.*) \(", tables)
    assert {*titles} | {*", ".join(left_out).split(", ")} >= {*cells}
    words = "".join(text.split())
    for study in group.studies:
        assert "".join(study.name.split()) in words
        assert f"{100 * study.score.value:.1f}%" in words


def test_columns_without_room_are_named_and_the_others_whole() -> None:
    names = ["score", "trained", "time", "CPU time", "memory", "on disk"]
    table = Section(
        "T", [("strategy", False), *((name, True) for name in names)], [["lora", *["123456789"] * 6]]
    )
    screen = Console(width=60, highlight=False)
    with screen.capture() as capture:
        on_terminal(screen, [table])
    text = capture.get()
    assert "columns that do not fit: on disk, CPU time (--format html or csv shows all)" in text
    assert text.count("123456789") == 4 and "…" not in text


class Page(HTMLParser):
    """Follows the tags of a page, which must close what they open."""

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for each, attributes in self.seen if each == tag]


def test_the_page_is_whole_light_and_dark(tmp_path: Path) -> None:
    group, file = group_of(many(tmp_path, 6)), tmp_path / "page.html"
    assert main([str(tmp_path), "--output", str(file)]) == 0
    text = file.read_text(encoding="utf-8")
    page = Page(text)
    assert "color-scheme:light dark" in text and "@media(prefers-color-scheme:dark)" in text
    assert "@media print" in text and any(each.get("name") == "viewport" for each in page.all("meta"))
    assert "<h1>lora on reviews</h1>" in text
    anchors = [each["id"] for tag in ("h2", "h3") for each in page.all(tag)]
    assert len(anchors) == len({*anchors}) == len([each for each in page.all("a") if each["href"]])
    assert all(each.get("src", "").startswith("data:image/png;base64,") for each in page.all("img"))
    table = sections_of(group)[1]
    shown = text[text.index("<table>") : text.index("</table>")]
    for title, _ in table.columns:
        assert f">{title}<" in shown
    for title in ("seeds", "time", "memory", "on disk", "Pareto", "trained", "CPU time"):
        assert f">{title}<" in shown or f"{title} " in table.note
    assert shown.count('<th scope="row">') == 6 and shown.count('scope="col"') >= 3
    assert text.index("Pairwise") < text.index(">Plots<") < text.index(">Runs<") < text.index(">Details<")
    assert text.index(">Details<") < text.index(">Standard errors<")


def test_what_is_the_same_in_all_rows_stands_above_the_table(tmp_path: Path) -> None:
    for seed in range(2):
        finished(tmp_path / f"full-{seed}", "full", seed, accuracy=0.8)
        finished(tmp_path / f"scratch-{seed}", "scratch", seed, accuracy=0.6)
    table = sections_of(group_of(tmp_path))[1]
    assert table.note == (
        "the same in all rows: seeds 2, trained 2 M, time 30 s, CPU time 9.0 s, memory 700 MB, on disk 1 kB"
    )
    assert [title for title, _ in table.columns] == ["strategy", "score", "Pareto"]


def test_the_answer_comes_first_and_the_details_last() -> None:
    verdict = Section("Verdict", lead="lora | full cannot be told apart")
    table = Section("Scores", [("name", False), ("score", True)], [["a|b", "1"]], note="same: seeds 2")
    errors = Section("Standard errors", lines=["a: 1 point"], detail=True)
    plots = Section("Plots", plots=[Plot("x", "a picture", b"png")])
    text = as_markdown([errors, verdict, table, plots])
    assert re.findall(r"^## (.*)$", text, re.M) == ["Verdict", "Scores", "Standard errors"]
    assert (
        "**lora | full cannot be told apart**" in text and "\n\nSame: seeds 2.\n\n| name | score |\n" in text
    )
    assert "| --- | ---: |\n| a\\|b | 1 |\n" in text
    page = as_html("title", "about", [errors, verdict, table, plots])
    Page(page)
    places = [
        page.index(f">{name}<") for name in ("Verdict", "Scores", "Plots", "Details", "Standard errors")
    ]
    assert places == sorted(places) and '<p class="lead">lora | full' in page


def test_markdown_is_in_the_order_of_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = report(capsys, many(tmp_path, 3), "--format", "markdown")
    titles = re.findall(r"^## (.*)$", text, re.M)
    assert titles[0].startswith("Verdict") and titles[1].startswith("reviews: accuracy")
    assert titles[-2:] == ["Runs", "Standard errors"]
    tables = re.findall(r"(?:^\|.*\|\n)+", text, re.M)
    assert len(tables) == 2
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1


class Drawn:
    """Keeps the figures that a plot draws."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.figures: list[Figure] = []

        def keep(figure: Figure, name: str, title: str) -> Plot:
            figure.canvas.draw()  # type: ignore[attr-defined]
            self.figures.append(figure)
            return Plot(name, title, b"")

        for module in (training, calibration):
            monkeypatch.setattr(module, "plot", keep)

    @property
    def panels(self) -> list[list[str]]:
        return [[axes.get_title() for axes in figure.axes if axes.get_visible()] for figure in self.figures]


@pytest.mark.parametrize(
    ("count", "figures", "panels"), [(FEW, 1, 2), (FEW + 1, 2, FEW + 1), (11, 2, PANELS)]
)
def test_more_than_a_few_studies_get_a_panel_each(
    count: int, figures: int, panels: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn, group = Drawn(monkeypatch), group_of(many(tmp_path, count))
    plots = training.training(group)
    assert [len(titles) for titles in drawn.panels] == [panels] * figures
    if count > FEW:
        assert drawn.panels[0][0].replace("\n", " ") == group.best.name
        lines = drawn.figures[0].axes[0].lines
        assert sum(line.get_color() == drawing.OTHERS for line in lines) == count - 1
        assert all(study.name in plots[0].title for study in group.studies[PANELS:])
    for figure in drawn.figures:
        words = [text for text in figure.findobj(Text) if text.get_text() in training.AXES.values()]
        boxes = [part.get_window_extent() for part in [*figure.axes, *words]]
        assert words and not any(
            legend.get_window_extent().overlaps(box) for legend in figure.legends for box in boxes
        )


def test_six_reliability_diagrams_and_the_rest_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn, group = Drawn(monkeypatch), group_of(many(tmp_path, 8))
    plot = calibration.reliability(group)
    assert plot is not None and len(drawn.panels[0]) == calibration.BEST
    for title, study in zip(drawn.panels[0], group.studies, strict=False):
        found = study.tried[0].calibration
        assert found is not None and f"ECE {found.error:.3f}" in title
    assert plot.title.endswith(f"; not drawn: {', '.join(study.name for study in group.studies[6:])}")
    (dots,) = drawn.figures[0].axes[0].collections
    assert sum(dots.get_sizes()) == pytest.approx(calibration.AREA)  # type: ignore[attr-defined]


def test_every_study_and_the_baselines_stand_among_the_scores(tmp_path: Path) -> None:
    finished(tmp_path / "full", "full", baselines={"tfidf": 0.7})
    group = group_of(tmp_path)
    assert [study.name for study in group.studies] == ["full", "TF-IDF"]
    assert scores(group).title == "Scores on 400 test examples, with 95 % confidence intervals"
    assert scores(group).png.startswith(b"\x89PNG")


def test_a_title_says_what_is_compared() -> None:
    rows = [{"strategy": name, "task": "sst2", "state": "finished"} for name in ("full", "lora", "lora")]
    assert title_of(rows) == "full and lora on sst2"
    assert title_of([*rows, {"strategy": "", "task": None, "state": "damaged"}]) == "full and lora on sst2"
    more = [row | {"strategy": str(number)} for number, row in enumerate(2 * rows)]
    assert title_of(more) == "6 strategies on sst2"


def test_no_two_names_of_a_plot_are_folded_to_the_same() -> None:
    names = [f"lora rank={rank} targets=[query,key,value,dense], MiniLM, 400 rows" for rank in range(12)]
    texts = folded(names, 20)
    assert len({*texts.values()}) == 12
    for text in texts.values():
        assert len(text.split("\n")) <= 2 and max(map(len, text.split("\n"))) <= 20


def test_names_are_drawn_letter_by_letter(tmp_path):
    """Between dollars matplotlib expects a formula, and fails where there is none."""
    names = folded(["$x^$", "a\x1b]0;t\x07", "b"], 16)
    assert names == {"$x^$": r"\$x^\$", "a\x1b]0;t\x07": r"a\x1b]0;t\x07", "b": "b"}
    with matplotlib.rc_context(drawing.TEXT):
        figure = Figure(figsize=(1, 1))
        figure.subplots().set_xticks(range(3), names.values())
        figure.savefig(tmp_path / "names.png")  # a warning, as of a glyph that is missing, is an error


@pytest.mark.parametrize("output", [True, False])
def test_what_is_written_controls_no_terminal(tmp_path, capsys, output):
    file = tmp_path / "report.html"
    put("<td>\x1b]0;t\x07\u202e</td>\n", str(file) if output else None)
    written = file.read_text() if output else capsys.readouterr().out
    assert written == "<td>\\x1b]0;t\\x07\\u202e</td>\n"
