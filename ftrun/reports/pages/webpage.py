"""A report as one self-contained web page: light and dark, wide and narrow, and on paper."""

from __future__ import annotations

import base64
import html
import re
from typing import TYPE_CHECKING

from ftrun.reports.pages.page import ordered

if TYPE_CHECKING:
    from ftrun.reports.comparison import Row
    from ftrun.reports.pages.page import Plot, Section

MOST = 4  # strategies named in the title
STYLE = """
:root{color-scheme:light dark;
--ink:#1d2125;--soft:#59636e;--line:#d5dade;--paper:#fff;--tint:#f2f6fa;--mark:#0b5fa5}
@media(prefers-color-scheme:dark){
:root{--ink:#e4e7ea;--soft:#a3adb7;--line:#3b434b;--paper:#16191d;--tint:#20262d;--mark:#7db8ec}}
*{box-sizing:border-box}
body{font:16px/1.5 system-ui,sans-serif;max-width:60em;margin:0 auto;padding:1.5em 1.25em 4em;
color:var(--ink);background:var(--paper);overflow-wrap:break-word}
h1{font-size:1.65em;line-height:1.2;margin:0}
h2{font-size:1.2em;line-height:1.3;margin:2.2em 0 .5em}
h3{font-size:1em;margin:1.5em 0 .4em}
.about,.note,figcaption,small,th{color:var(--soft)}
.about{margin:.4em 0 0}.note{font-size:.875em;margin:0 0 .5em}
.lead{font-size:1.25em;line-height:1.4;margin:.4em 0;padding:.6em .9em;background:var(--tint);
border-left:4px solid var(--mark)}
.link{color:inherit;text-decoration:none}.link:hover::after{content:" #";color:var(--soft)}
table{border-collapse:collapse;width:100%;margin:.5em 0 1em;font-size:.875em;line-height:1.4}
th,td{padding:.4em .55em;border-bottom:1px solid var(--line);text-align:left;vertical-align:top}
th:first-child,td:first-child{padding-left:0}th:last-child,td:last-child{padding-right:0}
thead th{border-bottom-width:2px;vertical-align:bottom;font-weight:600}
tbody th{color:var(--ink);font-weight:600;overflow-wrap:anywhere;min-width:7.5em}
.n{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}
td:not(.n){overflow-wrap:anywhere}
small{display:block;font-size:.9em;font-weight:400}
ul{padding-left:1.2em;margin:.5em 0}li{margin:.25em 0}
figure{margin:1.5em 0;max-width:46em}figcaption{font-size:.9em;margin-top:.4em}
img{display:block;width:100%;height:auto;background:#fff;border-radius:6px}
@media(prefers-color-scheme:dark){img{padding:8px;filter:brightness(.92)}}
.details{font-size:.925em}
@media(max-width:640px){
body{padding:1em .9em 3em}h1{font-size:1.35em}.lead{font-size:1.1em}
thead{display:none}table,tbody,tr,th,td{display:block;width:auto}
tbody tr{border-bottom:1px solid var(--line);padding:.6em 0}
tbody th,tbody td{border:0;padding:.1em 0!important}
.n,td:not(.n){display:flex;justify-content:space-between;gap:1em;text-align:right;white-space:normal}
td::before{content:attr(data-title);color:var(--soft)}td:empty{display:none}
td>span{text-align:right}td small{display:inline}td small::before{content:"\\a0· " attr(data-title) " "}}
@media print{body{max-width:none;padding:0;font-size:10pt}h2,h3{break-after:avoid}
figure,tr,.lead{break-inside:avoid}figure{max-width:32em}}
"""


def title_of(rows: list[Row]) -> str:
    """What is compared: full, lora and scratch on reviews."""
    known = [row for row in rows if row["state"] != "damaged"] or rows
    names = list(dict.fromkeys(str(row["strategy"]) for row in known if row["strategy"]))
    tasks = list(dict.fromkeys(str(row["task"]) for row in known if row["task"]))
    what = _listed(names) if len(names) <= MOST else f"{len(names)} strategies"
    return f"{what or 'Runs'} on {_listed(tasks)}" if 0 < len(tasks) <= MOST else what or "Runs"


def _listed(names: list[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)


def as_html(title: str, about: str, sections: list[Section]) -> str:
    """The sections as one self-contained file, with the plots inside; `about` stands below the title."""
    taken: set[str] = set()
    read = [section for section in ordered(sections) if not section.detail]
    details = [section for section in sections if section.detail]
    parts = [
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{html.escape(title)}</title><style>{STYLE}</style></head><body>",
        f'<header><h1>{html.escape(title)}</h1><p class="about">{html.escape(about)}</p></header><main>',
        *(_section(section, 2, taken) for section in read),
    ]
    if details:
        inner = "\n".join(_section(section, 3, taken) for section in details)
        parts.append(f'<section class="details">{_heading("Details", 2, taken)}\n{inner}</section>')
    return "\n".join([*parts, "</main></body></html>"]) + "\n"


def _section(section: Section, level: int, taken: set[str]) -> str:
    parts = [_heading(section.title, level, taken)]
    if section.lead:
        parts.append(f'<p class="lead">{html.escape(section.lead)}</p>')
    if section.note:
        parts.append(f'<p class="note">{html.escape(section.note[0].upper() + section.note[1:])}.</p>')
    if section.rows:
        parts.append(_table(section))
    lines = "".join(f"<li>{html.escape(line)}</li>" for line in section.lines)
    parts += [f"<ul>{lines}</ul>"] if lines else []
    return "\n".join(["<section>", *parts, *map(_figure, section.plots), "</section>"])


def _heading(title: str, level: int, taken: set[str]) -> str:
    """A heading that links to itself."""
    name = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") or "section"
    number = next(number for number in range(1, len(taken) + 2) if f"{name}-{number}" not in taken)
    taken.add(f"{name}-{number}")
    anchor = f"{name}-{number}" if number > 1 else name
    text = html.escape(title)
    return f'<h{level} id="{anchor}"><a class="link" href="#{anchor}">{text}</a></h{level}>'


def _figure(plot: Plot) -> str:
    data = base64.b64encode(plot.png).decode()
    words = html.escape(plot.title)
    image = f'<img alt="{words}" src="data:image/png;base64,{data}">'
    return f"<figure>{image}<figcaption>{words}</figcaption></figure>"


def _table(section: Section) -> str:
    """The table, the values of a column that stands below another in smaller letters."""
    titles = [title for title, _ in section.columns]
    above = {under: over for under, over in section.below.items() if {under, over} <= {*titles}}
    shown = [place for place, title in enumerate(titles) if title not in above]
    under = {place: [titles.index(each) for each in above if above[each] == titles[place]] for place in shown}

    def heading(place: int) -> str:
        mark = ' class="n"' if section.columns[place][1] else ""
        small = "".join(f"<small>{html.escape(titles[each])}</small>" for each in under[place])
        return f'<th scope="col"{mark}>{html.escape(titles[place])}{small}</th>'

    def cell(row: list[str], place: int) -> str:
        smalls = [
            f'<small data-title="{html.escape(titles[each])}">{html.escape(row[each])}</small>'
            for each in under[place]
            if row[each]
        ]
        text = html.escape(row[place]) + "".join(smalls)
        if place == shown[0]:
            return f'<th scope="row">{text}</th>'
        mark = ' class="n"' if section.columns[place][1] else ""
        inner = f"<span>{text}</span>" if text else ""
        return f'<td{mark} data-title="{html.escape(titles[place])}">{inner}</td>'

    head = "".join(map(heading, shown))
    body = "\n".join(f"<tr>{''.join(cell(row, place) for place in shown)}</tr>" for row in section.rows)
    return f"<table><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table>"
