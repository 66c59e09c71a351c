"""The charts of a report, as SVG that needs no script and follows the page's light or dark scheme."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from counterpoint.reporting.series import conflict_share, smoothed, thinned
from counterpoint.reporting.svg import COLORS, Figure, altair, color, dash, svg
from counterpoint.runs.records import Series

POINTS = 1500  # drawn in one chart: more cannot be told apart and only weigh the page down
_CROWD = 4  # lines above which the values behind a moving mean only blur the chart
_MANY = 6  # lines above which a chart takes the page's whole width


def curves(
    title: str,
    lines: Sequence[tuple[str, Series]],
    *,
    noisy: bool = False,
    logarithmic: bool = False,
    percent: bool = False,
) -> Figure:
    """Draw lines over the training steps; lines of one name share a colour, as seeds of one recipe do.

    More names than colours are told apart by dashes, and more than a few make a chart wide.

    Args:
        title: what is drawn.
        lines: name and values of each.
        noisy: draw the moving mean, and the values lightly behind it where the lines are few.
        logarithmic: scale the values so; those that are not positive are left out.
        percent: label the values as percentages, from 0.

    Raises:
        CounterpointError: the packages that draw are not installed.
    """
    alt = altair()
    names = list(dict.fromkeys(name for name, _ in lines))
    behind = noisy and len(lines) <= _CROWD
    budget = POINTS // (len(lines) * (2 if behind else 1))

    def values(smooth: bool) -> Any:
        rows = []
        for number, (name, series) in enumerate(lines):
            drawn = thinned(smoothed(series) if smooth else series, budget)
            rows += [
                {"step": step, "value": value, "name": names.index(name), "line": number}
                for step, value in zip(drawn.steps.tolist(), drawn.values.tolist(), strict=True)
                if value > 0 or not logarithmic
            ]
        return alt.Data(values=rows)

    kind = "log" if logarithmic else "linear"
    ticks = {"values": _powers([series for _, series in lines])} if logarithmic else {"tickCount": 5}
    encoding = {
        "x": _steps(alt),
        "y": alt.Y(
            "value:Q",
            title=None,
            scale=alt.Scale(type=kind, zero=percent),
            axis=alt.Axis(**ticks, format="~%" if percent else "~g"),
        ),
        "color": color(alt, "name:N", list(range(len(names)))),
        "detail": "line:N",
    }
    if len(names) > COLORS:
        encoding["strokeDash"] = dash(alt, "name:N", list(range(len(names))))
    few = max(len(series.steps) for _, series in lines) <= 40
    line = alt.Chart(values(noisy)).mark_line(
        aria=False, strokeWidth=1.8, point={"size": 24} if few else False
    )
    chart = line.encode(**encoding)
    if behind:
        chart = (
            alt.Chart(values(False))
            .mark_line(aria=False, strokeWidth=1, opacity=0.3 / len(lines))
            .encode(**encoding)
            + chart
        )
    wide = len(names) > _MANY
    size = {"width": 720, "height": 340} if wide else {}
    return Figure(title, svg(alt, chart, **size), names if len(names) > 1 else (), wide)


def calibration(title: str, curves: Mapping[str, Mapping[str, Sequence[float]]]) -> Figure:
    """Draw the share of positive rows against the mean probability of bins, and the line where they agree.

    Args:
        title: what is drawn.
        curves: by name, of each bin what was ``predicted`` and ``observed``.

    Raises:
        CounterpointError: the packages that draw are not installed.
    """
    alt = altair()
    rows = [
        {"predicted": predicted, "observed": observed, "name": number}
        for number, curve in enumerate(curves.values())
        for predicted, observed in zip(curve["predicted"], curve["observed"], strict=True)
    ]
    reach = max([row["predicted"] for row in rows] + [row["observed"] for row in rows], default=1.0) or 1.0
    scale = alt.Scale(domain=[0, reach], nice=False)
    axis = alt.Axis(tickCount=4, format="~g")
    line = alt.Chart(alt.Data(values=rows)).mark_line(
        aria=False, strokeWidth=1.6, point={"size": 20, "aria": False}
    )
    agreed = alt.Chart(
        alt.Data(values=[{"predicted": end, "observed": end} for end in (0, reach)])
    ).mark_line(aria=False, strokeDash=[3, 3], strokeWidth=1, color="currentColor", opacity=0.6)
    places = {
        "x": alt.X("predicted:Q", title="predicted", scale=scale, axis=axis),
        "y": alt.Y("observed:Q", title=None, scale=scale, axis=axis),
    }
    drawn = agreed.encode(**places) + line.encode(
        **places, color=color(alt, "name:N", list(range(len(curves))))
    )
    return Figure(title, svg(alt, drawn), list(curves) if len(curves) > 1 else ())


def conflicts(title: str, cosines: Series) -> Figure:
    """Draw the cosine of two gradients at every step around the line of no conflict (MTRec, Fig. 5).

    Raises:
        CounterpointError: the packages that draw are not installed.
    """
    alt = altair()
    drawn = thinned(cosines, POINTS)
    reach = max(0.05, 1.05 * float(np.abs(drawn.values).max()))
    rows = [
        {"step": step, "cosine": cosine, "conflict": int(cosine < 0)}
        for step, cosine in zip(drawn.steps.tolist(), drawn.values.tolist(), strict=True)
    ]
    points = (
        alt.Chart(alt.Data(values=rows))
        .mark_circle(aria=False, size=9, opacity=0.55)
        .encode(
            x=_steps(alt),
            y=alt.Y(
                "cosine:Q",
                title=None,
                scale=alt.Scale(domain=[-reach, reach]),
                axis=alt.Axis(tickCount=5, format="~g"),
            ),
            color=color(alt, "conflict:N", [0, 1]),
        )
    )
    zero = alt.Chart(alt.Data(values=[{"y": 0}])).mark_rule(color="currentColor").encode(y="y:Q")
    title = f"{title}: in conflict at {conflict_share(cosines.values):.1%} of the steps"
    return Figure(title, svg(alt, zero + points))


def _steps(alt: Any) -> Any:
    return alt.X("step:Q", title="step", scale=alt.Scale(nice=False), axis=alt.Axis(tickCount=4, format=",d"))


def _powers(lines: Sequence[Series]) -> list[float]:
    """Return the powers of ten around all positive values, with 2 and 5 times these where they are few."""
    positive = np.concatenate([series.values[series.values > 0] for series in lines])
    if not len(positive):
        return [1.0]
    low, high = np.floor(np.log10(positive.min())), np.ceil(np.log10(positive.max()))
    factors = (1.0, 2.0, 5.0) if high - low <= 2 else (1.0,)
    return [factor * 10.0**power for power in np.arange(low, high + 1).tolist() for factor in factors]


@dataclass(frozen=True)
class Bar:
    """A value with its 95 % interval, where that is known."""

    name: str
    value: float
    limits: tuple[float, float] | None = None


@dataclass(frozen=True)
class Point:
    """What came out at a value of something swept, with its 95 % interval, where that is known."""

    at: float | str
    value: float
    limits: tuple[float, float] | None = None


def sweep(title: str, points: Sequence[Point], *, key: str) -> Figure:
    """Draw what came out against the values of a key, joined, with their intervals.

    Numbers stand on an axis of numbers, a logarithmic one where they reach over two powers of ten or more;
    any other values are categories, in the order given.

    Args:
        title: what is drawn.
        points: in the order of the sweep.
        key: what was swept.

    Raises:
        CounterpointError: the packages that draw are not installed.
    """
    alt = altair()
    places = [point.at for point in points if not isinstance(point.at, str)]
    numeric = len(places) == len(points)
    if numeric:
        kind = "log" if min(places) > 0 and max(places) >= 100 * min(places) else "linear"
        scale = alt.Scale(type=kind, zero=False, nice=False, padding=10)
        axis = alt.Axis(values=sorted(set(places)), format="~g", labelOverlap=True)
        x = alt.X("at:Q", title=key, scale=scale, axis=axis)
    else:
        x = alt.X("at:N", title=key, sort=None, axis=alt.Axis(labelAngle=0, labelLimit=120))
    limits = [point.limits or (point.value, point.value) for point in points]
    rows = [
        {"at": point.at if numeric else str(point.at), "value": point.value, "low": low, "high": high}
        for point, (low, high) in zip(points, limits, strict=True)
    ]
    y = {"title": None, "scale": alt.Scale(zero=False), "axis": alt.Axis(tickCount=5, format="~g")}
    chart = alt.Chart(alt.Data(values=rows)).encode(x=x)
    drawn = alt.layer(
        chart.mark_rule(aria=False, strokeWidth=2, color="var(--c0)", opacity=0.55).encode(
            y=alt.Y("low:Q", **y), y2="high:Q"
        ),
        chart.mark_line(
            aria=False,
            strokeWidth=1.8,
            color="var(--c0)",
            point={"size": 36, "color": "var(--c0)", "aria": False},
        ).encode(y=alt.Y("value:Q", **y)),
    )
    return Figure(title, svg(alt, drawn))


def bars(title: str, values: Sequence[Bar], lines: Mapping[str, float], *, base: float = 0.0) -> Figure:
    """Draw a horizontal bar for each value, its interval over it, and vertical lines to be beaten.

    Args:
        title: what is drawn.
        values: the bars, from above.
        lines: by name.
        base: where the bars begin: what chance reaches, so that their length is what was gained over it.

    Raises:
        CounterpointError: the packages that draw are not installed.
    """
    alt = altair()
    limits = [bar.limits or (bar.value, bar.value) for bar in values]
    rows = [
        {
            "row": row,
            "value": bar.value,
            "base": base,
            "low": low,
            "high": high,
            "text": f"{bar.name}  {bar.value:.4f}",
        }
        for row, (bar, (low, high)) in enumerate(zip(values, limits, strict=True))
    ]
    known = [
        base,
        *lines.values(),
        *(bar.value for bar in values),
        *(limit for pair in limits for limit in pair),
    ]
    reach = alt.Scale(domain=[min(known), max(known) + 0.04 * (max(known) - min(known))], nice=False)
    x = {"scale": reach, "title": None, "axis": alt.Axis(tickCount=4, format="~g")}
    y = alt.Y("row:O", axis=None, scale=alt.Scale(paddingInner=0, paddingOuter=0.1))
    chart = alt.Chart(alt.Data(values=rows)).encode(y=y)
    names = ["mean and 95 % interval", *lines]
    rules = [{"x": value, "name": number} for number, value in enumerate(lines.values(), 1)]
    drawn = alt.layer(
        chart.mark_bar(aria=False, height=9, yOffset=7, opacity=0.75, color="var(--c0)").encode(
            x=alt.X("base:Q", **x), x2="value:Q"
        ),
        chart.mark_rule(aria=False, yOffset=7, strokeWidth=1.6, color="currentColor").encode(
            x=alt.X("low:Q", **x), x2="high:Q"
        ),
        alt.Chart(alt.Data(values=rules))
        .mark_rule(aria=False, strokeDash=[3, 3], strokeWidth=1.4)
        .encode(x=alt.X("x:Q", **x), color=color(alt, "name:N", list(range(len(names))))),
        chart.mark_text(aria=False, align="left", dx=2, dy=-6, fontSize=11, color="currentColor").encode(
            x=alt.value(0), text="text:N"
        ),
    )
    return Figure(title, svg(alt, drawn, height=34 * len(rows) + 30), names)
