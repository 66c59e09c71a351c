"""What all charts of a report share: a figure, its colours, and SVG that needs no script."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from counterpoint.errors import CounterpointError

MISSING = "The charts of a report need two more packages: pip install 'counterpoint[report]'."


_PACKAGES = ("altair", "vl_convert")


COLORS = 8  # --c0 … --c7, which the page defines for both schemes


_DASHES = ([1, 0], [5, 3], [1.5, 2.5])  # of the first eight lines, of the next eight, and so on


@dataclass(frozen=True)
class Figure:
    """A chart and what stands around it.

    Attributes:
        title: one line above the chart.
        svg: the chart.
        legend: the names of the series, in the order of the colours; empty for a single one.
        wide: whether the chart takes the page's whole width.
    """

    title: str
    svg: str
    legend: Sequence[str] = ()
    wide: bool = False


def can_draw() -> bool:
    """Return whether the packages that draw are installed."""
    return all(find_spec(package) is not None for package in _PACKAGES)


def altair() -> Any:
    """Return the package that draws.

    Raises:
        CounterpointError: it is not installed.
    """
    try:
        import altair
        import vl_convert  # noqa: F401  # altair finds it by itself, but late and with advice of its own
    except ImportError:
        raise CounterpointError(MISSING) from None
    return altair


def color(alt: Any, field: str, values: Sequence[int]) -> Any:
    """Return the colours of numbered series."""
    colors = [f"var(--c{value % COLORS})" for value in values]
    return alt.Color(field, scale=alt.Scale(domain=list(values), range=colors), legend=None)


def dash(alt: Any, field: str, values: Sequence[int]) -> Any:
    """Return the dashes of numbered series: those beyond the colours are told apart by them."""
    dashes = [_DASHES[value // COLORS % len(_DASHES)] for value in values]
    return alt.StrokeDash(field, scale=alt.Scale(domain=list(values), range=dashes), legend=None)


def svg(alt: Any, chart: Any, height: int = 210, width: int = 340) -> str:
    """Return a chart as SVG whose colours follow the page."""
    styled = chart.properties(
        width=width, height=height, autosize=alt.AutoSizeParams(type="fit", contains="padding")
    ).configure(
        background="transparent",
        padding=4,
        view=alt.ViewConfig(stroke=None),
        axis=alt.AxisConfig(
            domain=False,
            ticks=False,
            labelPadding=6,
            labelFontSize=11,
            titleFontSize=11,
            titleFontWeight="normal",
            labelColor="currentColor",
            titleColor="currentColor",
            gridColor="currentColor",
            gridOpacity=0.14,
        ),
    )
    written = io.StringIO()
    styled.save(written, format="svg")
    return written.getvalue()
