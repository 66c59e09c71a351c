"""Models above the floors they must beat, as a table for the terminal and for the page."""

import math
import textwrap
from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from counterpoint.comparison.standing import Kind, Row, Value, best, metric_names
from counterpoint.reporting import page
from counterpoint.reporting.page import Html

_HEADER = 9  # characters of a column's header: six columns fit into 80 with the models' names


def terminal_table(rows: Sequence[Row], metrics: Sequence[str] | None = None) -> Table:
    """Return the rows as a table for the terminal: best in bold, what does not beat a floor in red.

    Args:
        rows: models and floors.
        metrics: the columns; by default all there are.
    """
    metrics = metric_names(rows) if metrics is None else metrics
    leaders = {metric: best(rows, metric) for metric in metrics}
    table = Table(box=None, pad_edge=False)
    table.add_column("", overflow="fold", min_width=12)
    # Long names and spreads break over lines, so that six metrics fit into 80 columns.
    for metric in metrics:
        table.add_column(Text("\n".join(_broken(metric))), justify="right", no_wrap=True)
    for row in rows:
        cells = [
            Text(
                str(row.values.get(metric, "")).replace(" ± ", "\n±"),
                style=" ".join(["bold"] * (leaders[metric] is row) + ["red"] * (metric in row.lost)),
            )
            for metric in metrics
        ]
        seeds = f" ({row.seeds} seeds)" if row.seeds > 1 else ""
        table.add_row(Text(row.name + seeds), *cells, style="" if row.kind is Kind.MODEL else "dim")
    return table


def _broken(metric: str) -> list[str]:
    """Return a metric's name in lines: broken behind a slash, and where a part is longer than a number is."""
    task, slash, name = metric.rpartition("/")
    parts = [part for part in (task + slash, name) if part]
    # Halves of about the same length: a slash alone on its line looks like a mistake.
    widths = [math.ceil(len(part) / math.ceil(len(part) / _HEADER)) for part in parts]
    return [line for part, width in zip(parts, widths, strict=True) for line in textwrap.wrap(part, width)]


def results_table(rows: Sequence[Row], metrics: Sequence[str] | None = None) -> Html:
    """Return models and floors as a table: best in bold, what does not beat a floor in red.

    Args:
        rows: models and floors.
        metrics: the columns; by default all there are.
    """
    metrics = metric_names(rows) if metrics is None else metrics
    leaders = {metric: best(rows, metric) for metric in metrics}

    def cell(row: Row, metric: str) -> Html:
        content = shown_value(row.values.get(metric))
        if leaders[metric] is row:
            content = page.element("b", content)
        return page.element("td", content, class_="lost" if metric in row.lost else "")

    return page.table(
        [page.text(""), *map(page.text, metrics)],
        [
            page.row(
                row.name + (f" ({row.seeds} seeds)" if row.seeds > 1 else ""),
                [cell(row, metric) for metric in metrics],
                class_=row.kind.value,
            )
            for row in rows
        ],
    )


def shown_value(value: Value | None) -> Html:
    """Return a metric with its spread or interval."""
    if value is None:
        return Html("")
    notes = [f"± {value.spread:.4f}"] if not math.isnan(value.spread) else []
    if value.limits:
        low, high = value.limits
        notes.append(f"{low:.4f} to {high:.4f}")
    under = [page.element("small", page.text(note)) for note in notes]
    return Html(page.text(Value(value.mean)) + "".join(under))
