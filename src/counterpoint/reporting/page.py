"""The report's page: a little HTML in which every text is escaped, and one style sheet."""

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NewType

from counterpoint.reporting.svg import COLORS, Figure

Html = NewType("Html", str)
"""Markup that is safe to put into the page; `text` and `element` make it."""


def text(value: object) -> Html:
    """Escape a value for the page."""
    return Html(html.escape(str(value)))


def element(tag: str, *children: Html, **attributes: str) -> Html:
    """Return an element; ``class_`` stands for class, ``aria_label`` for aria-label, and so on."""
    written = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{html.escape(value)}"'
        for name, value in attributes.items()
        if value
    )
    return Html(f"<{tag}{written}>{''.join(children)}</{tag}>")


def table(header: Sequence[Html], rows: Iterable[Html]) -> Html:
    """Return a table that scrolls sideways where the screen is narrower than it is."""
    head = element("thead", element("tr", *(element("th", cell, scope="col") for cell in header)))
    return element("div", element("table", head, element("tbody", *rows)), class_="wide")


def row(name: str, cells: Iterable[Html], class_: str = "") -> Html:
    """Return a table row that starts with its name; ``cells`` are elements already."""
    return element("tr", element("th", text(name), scope="row"), *cells, class_=class_)


def facts(columns: Mapping[str, Mapping[str, Any]]) -> Html:
    """Return a table of named facts, a column for each run, or one for all when they agree.

    Without facts there is no table.
    """
    flat = {label: _flat(column) for label, column in columns.items()}
    distinct = list(flat.values())
    if all(column == distinct[0] for column in distinct):
        flat = {"": distinct[0]}
    names = list(dict.fromkeys(name for column in flat.values() for name in column))
    if not names:
        return Html("")
    return table(
        [text(""), *map(text, flat)],
        [
            row(name, (element("td", text(_shown(column.get(name, "—")))) for column in flat.values()))
            for name in names
        ],
    )


def figures(drawn: Iterable[Figure]) -> Html:
    """Return charts in as many columns as the screen has room for; nothing when there are none."""
    charts = [_figure(figure) for figure in drawn]
    return element("div", *charts, class_="figures") if charts else Html("")


def section(title: str, *children: Html) -> Html:
    """Return a headed section, or nothing when it would be empty."""
    return element("section", element("h2", text(title)), *children) if any(children) else Html("")


def document(title: str, subtitle: str, content: Sequence[Html]) -> Html:
    """Return the whole page; it refers to nothing outside itself."""
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{text(title)}</title><style>{STYLE}</style>"
    )
    header = element("header", element("h1", text(title)), element("p", text(subtitle)))
    body = element("main", header, *content)
    return Html(f'<!doctype html>\n<html lang="en"><head>{head}</head><body>{body}</body></html>\n')


def _figure(figure: Figure) -> Html:
    keys = (
        element(
            "li", element("i", style=f"color: var(--c{number % COLORS})", class_=_dashes(number)), text(name)
        )
        for number, name in enumerate(figure.legend)
    )
    legend = element("ul", *keys, class_="legend") if figure.legend else Html("")
    image = element("div", Html(figure.svg), role="img", aria_label=figure.title)
    return element(
        "figure",
        element("figcaption", text(figure.title)),
        legend,
        image,
        class_="broad" if figure.wide else "",
    )


def _dashes(number: int) -> str:
    """Return the class of a key whose line is dashed because colours have run out."""
    return ["", "dashed", "dotted"][number // COLORS % 3]


def _flat(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in nested.items():
        label = f"{prefix}{name}".replace("_", " ")
        flat |= _flat(value, f"{label} · ") if isinstance(value, Mapping) else {label: value}
    return flat


def _shown(value: object) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case float():
            return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"
        case list():
            return ", ".join(map(_shown, value))
        case _:
            return str(value)


STYLE = """
:root {
  color-scheme: light dark;
  --paper: #fdfcfa; --ink: #1f2328; --quiet: #666c74; --line: #e2dfd9; --tint: #f4f1eb; --alarm: #b3261e;
  --c0: #2f6db3; --c1: #c8571b; --c2: #2d8a57; --c3: #8750b5;
  --c4: #a98000; --c5: #bb3d68; --c6: #2a8c97; --c7: #767676;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #17191c; --ink: #e4e2de; --quiet: #9a9fa6; --line: #33363b; --tint: #202327; --alarm: #ff8a80;
    --c0: #74abe6; --c1: #f0945c; --c2: #66c08e; --c3: #bd92e4;
    --c4: #d9b548; --c5: #ee84a6; --c6: #66c1cc; --c7: #a6a6a6;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.55 system-ui, sans-serif; }
main { max-width: 66rem; margin: 0 auto; padding: 3rem 1.25rem 5rem; }
h1, h2 { font-family: Charter, "Bitstream Charter", Georgia, serif; font-weight: 600; line-height: 1.2; }
h1 { font-size: 2.1rem; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.3rem; margin: 3rem 0 .9rem; }
h3 { font-size: 1rem; margin: 1.5rem 0 .5rem; }
header p, .note { color: var(--quiet); margin: .35rem 0 0; }
.note { font-size: .875rem; max-width: 44rem; }
.alarm { color: var(--alarm); border-left: 3px solid; margin: 1.75rem 0 0; padding: .1rem 0 .1rem 1rem; }
.alarm, .legend { list-style: none; }
.alarm li + li { margin-top: .25rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9375rem; font-variant-numeric: tabular-nums; }
th, td { padding: .4rem .9rem; text-align: right; white-space: nowrap; vertical-align: top; }
th:first-child { text-align: left; padding-left: 0; }
tbody th { font-weight: 400; }
thead th { color: var(--quiet); font-size: .8125rem; font-weight: 500; border-bottom: 1px solid var(--ink); }
tbody tr { border-bottom: 1px solid var(--line); }
tr.floor, tr.optimum { color: var(--quiet); }
tr.optimum { font-style: italic; }
td small { display: block; color: var(--quiet); font-weight: 400; font-size: .75rem; }
td.lost { color: var(--alarm); }
.figures { display: grid; gap: 1.75rem 2rem; }
.figures { grid-template-columns: repeat(auto-fit, minmax(min(100%, 19rem), 1fr)); }
figure { margin: 0; min-width: 0; max-width: 28rem; }
figure.broad { grid-column: 1 / -1; max-width: 52rem; }
figcaption { font-size: .875rem; font-weight: 600; margin-bottom: .3rem; }
figure svg { display: block; width: 100%; height: auto; color: var(--quiet); }
figure svg text { font-family: system-ui, sans-serif; }
.legend { display: flex; flex-wrap: wrap; gap: 0 1rem; margin: 0 0 .3rem; padding: 0; font-size: .8125rem; }
.legend i { display: inline-block; width: 1.1rem; margin-right: .4rem; vertical-align: middle; }
.legend i { border-top: 3px solid; }
.legend i.dashed { border-top-style: dashed; }
.legend i.dotted { border-top-style: dotted; }
details { border-bottom: 1px solid var(--line); padding: .5rem 0; }
summary { cursor: pointer; }
pre { background: var(--tint); border-radius: 6px; font-size: .8125rem; overflow-x: auto; padding: 1rem; }
@media (max-width: 40rem) {
  main { padding-top: 1.5rem; }
  h1 { font-size: 1.6rem; }
  th, td { padding: .35rem .6rem; }
  tbody th { min-width: 7rem; overflow-wrap: anywhere; white-space: normal; }
}
@media print { details[open] pre { white-space: pre-wrap; } }
"""
