"""The charts of a report, as SVG that needs no script and follows the page's light or dark scheme."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from counterpoint.reporting.drawing import COLORS, Figure, altair, color, dash, svg
from counterpoint.reporting.series import conflict_share, smoothed, thinned
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
