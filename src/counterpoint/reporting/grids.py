"""A table as content, and then for the terminal, for Markdown and for the page."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

from counterpoint.reporting import page
from counterpoint.reporting.page import Html


@dataclass(frozen=True)
class Grid:
    """A table of texts.

    Attributes:
        title: above it.
        header: of every column but the first, which has the names.
        rows: name, cells, and the columns (from 0) that are alarming.
        notes: sentences below it.
    """

    title: str
    header: Sequence[str]
    rows: Sequence[tuple[str, Sequence[str], frozenset[int]]]
    notes: Sequence[str] = ()


def markdown(title: str, grids: Sequence[Grid]) -> str:
    """Return grids as a Markdown page."""
    return "\n\n".join([f"# {title}", *map(_markdown, grids)]) + "\n"


def terminal(grid: Grid) -> Table:
    """Return a grid for the terminal; what is alarming is red."""
    table = Table(box=None, pad_edge=False, title=grid.title, title_justify="left", title_style="bold")
    table.add_column("", overflow="fold", min_width=12)
    for name in grid.header:
        wrapped = textwrap.fill(name, 8, break_long_words=False).replace("_", "_\n")
        table.add_column(wrapped, justify="right", no_wrap=True)
    for name, cells, alarming in grid.rows:
        table.add_row(
            Text(name),
            *(Text(cell, style="red" if place in alarming else "") for place, cell in enumerate(cells)),
        )
    return table


def section(grid: Grid | None) -> Html:
    """Return a grid as a section of the page; nothing for none."""
    if grid is None:
        return Html("")
    rows = [
        page.row(
            name,
            [
                page.element("td", page.text(cell), class_="lost" if place in alarming else "")
                for place, cell in enumerate(cells)
            ],
        )
        for name, cells, alarming in grid.rows
    ]
    notes = [page.element("p", page.text(note), class_="note") for note in grid.notes]
    table = page.table([page.text(""), *map(page.text, grid.header)], rows)
    return page.section(grid.title, table, *notes)


def _markdown(grid: Grid) -> str:
    lines = [
        _line(["", *grid.header]),
        "|---" + "|---:" * len(grid.header) + "|",
        *(
            _line([name, *(f"{cell} ↓" if place in alarming else cell for place, cell in enumerate(cells))])
            for name, cells, alarming in grid.rows
        ),
    ]
    return "\n\n".join([f"## {grid.title}", "\n".join(lines), *grid.notes])


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
