"""Charts of what came out: of every recipe, and against the values of something swept."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from counterpoint.reporting.drawing import Figure, altair, color, svg


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
