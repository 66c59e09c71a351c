"""Draw the figure of docs/balancing.md from the methods themselves: ``python -m experiments.two_gradients``.

Left, two conflicting gradients and what methods merge them into. Right, the same methods take steps on two
quadratic losses, one of them much steeper, with the same learning rate and from the same start.
"""

from itertools import chain
from pathlib import Path
from typing import Any

import altair as alt
import torch
from torch import Tensor

from counterpoint import balance

FIGURE = Path(__file__).parent.parent / "docs" / "figures" / "two-gradients.svg"
METHODS: dict[str, dict[str, Any]] = {
    "equal": {},
    "pcgrad": {},
    "mtrec": {"scale": 1.0, "project": "aux"},
    "metabalance": {},
    "gradcraft": {},
    "upgrad": {},
    "mgda": {},
    "cagrad": {},
    "nash_mtl": {},
}
GRADIENTS = torch.tensor([[1.0, 0.9], [-2.6, 0.7]], dtype=torch.float64)
MINIMA = torch.tensor([[-1.0, 0.0], [1.0, 0.6]], dtype=torch.float64)
CURVATURES = torch.tensor([[[1.0, 0.0], [0.0, 2.0]], [[6.0, 3.0], [3.0, 9.0]]], dtype=torch.float64)
START, RATE, STEPS = torch.tensor([0.7, 2.4], dtype=torch.float64), 0.02, 600


def losses(point: Tensor) -> dict[str, Tensor]:
    """Return the two quadratic losses at a point of the plane."""
    away = point - MINIMA
    values = 0.5 * torch.einsum("ti,tij,tj->t", away, CURVATURES, away)
    return {"target": values[0], "auxiliary": values[1]}


def path_of(name: str) -> list[Tensor]:
    """Return where a method's steps lead from the start."""
    balancer = balance.make(name, **METHODS[name])
    point = START.clone().requires_grad_()
    optimizer = torch.optim.SGD([point], lr=RATE)
    places = [point.detach().clone()]
    for _ in range(STEPS):
        optimizer.zero_grad()
        balancer.backward(losses(point), shared=[point], target="target")
        optimizer.step()
        places.append(point.detach().clone())
    return places


def trade_offs() -> list[Tensor]:
    """Return the points at which neither loss can be lowered without raising the other."""
    points = []
    for share in torch.linspace(0, 1, 60, dtype=torch.float64):
        shares = torch.stack([1 - share, share])
        summed = torch.einsum("t,tij->ij", shares, CURVATURES)
        points.append(torch.linalg.solve(summed, torch.einsum("t,tij,tj->i", shares, CURVATURES, MINIMA)))
    return points


def rows(label: str, points: list[Tensor]) -> list[dict[str, Any]]:
    """Return points as the rows of a chart's table, in their order."""
    return [
        {"method": label, "order": order, "x": float(x), "y": float(y)} for order, (x, y) in enumerate(points)
    ]


def axes(across: tuple[float, float], up: tuple[float, float]) -> alt.Chart:
    """Return an invisible layer that fixes what the axes span, so that a unit is as long on both."""
    corners = [{"x": x, "y": y} for x, y in zip(across, up, strict=True)]
    return (
        alt.Chart(alt.Data(values=corners))
        .mark_point(opacity=0)
        .encode(
            x=alt.X("x:Q", title=None, scale=alt.Scale(domain=across, nice=False)),
            y=alt.Y("y:Q", title=None, scale=alt.Scale(domain=up, nice=False)),
        )
    )


def line(data: list[dict[str, Any]], **mark: Any) -> alt.Chart:
    """Return a line through the rows, one for each method."""
    return (
        alt.Chart(alt.Data(values=data))
        .mark_line(**mark)
        .encode(x=alt.X("x:Q", title=None), y=alt.Y("y:Q", title=None), order="order:Q", detail="method:N")
    )


def coloured(chart: alt.Chart) -> alt.Chart:
    """Return the chart with a colour for each method."""
    names = list(METHODS)
    return chart.encode(
        color=alt.Color("method:N", sort=names, scale=alt.Scale(domain=names, scheme="tableau10"), title=None)
    )


def labels(data: list[dict[str, Any]], **mark: Any) -> alt.Chart:
    """Return the methods' names at their rows."""
    return (
        alt.Chart(alt.Data(values=data))
        .mark_text(fontSize=11, **mark)
        .encode(x="x:Q", y="y:Q", text="method:N")
    )


def arrows() -> alt.LayerChart:
    """Return the two gradients and what the methods merge them into."""
    origin = torch.zeros(2, dtype=torch.float64)
    given = [rows(f"gradient {index + 1}", [origin, row]) for index, row in enumerate(GRADIENTS)]
    made = [
        rows(name, [origin, balance.make(name, **options).merge(GRADIENTS, target=0)])
        for name, options in METHODS.items()
    ]
    tips = [pair[1] for pair in given]
    ends = [pair[1] for pair in made]
    return alt.layer(
        axes((-3.0, 1.5), (0.0, 2.9)),
        line(list(chain(*given)), color="#888", strokeWidth=5, opacity=0.6),
        coloured(line(list(chain(*made)), strokeWidth=2)),
        coloured(alt.Chart(alt.Data(values=ends)).mark_point(filled=True, size=60).encode(x="x:Q", y="y:Q")),
        labels(tips, dy=-9, color="#666"),
    ).properties(width=400, height=276, title="merged gradients")


def paths() -> alt.LayerChart:
    """Return the way each method takes, the two minima and the trade-offs between them."""
    walked = [rows(name, path_of(name)) for name in METHODS]
    ends = [places[-1] for places in walked]
    minima = [
        {"method": name, "x": float(x), "y": float(y)}
        for name, (x, y) in zip(("target's minimum", "auxiliary's minimum"), MINIMA, strict=True)
    ]
    return alt.layer(
        axes((-1.2, 1.2), (-0.3, 2.6)),
        line(rows("trade-offs", trade_offs()), color="#bbb", strokeWidth=6),
        coloured(line(list(chain(*walked)), strokeWidth=1.8)),
        coloured(alt.Chart(alt.Data(values=ends)).mark_point(filled=True, size=70).encode(x="x:Q", y="y:Q")),
        labels(minima[:1], dx=8, dy=16, align="left", color="#666"),
        labels(minima[1:], dx=-2, dy=30, align="right", color="#666"),
        labels(rows("start", [START]), dy=-9, color="#666"),
    ).properties(width=264, height=319, title=f"{STEPS} steps from one start")


def main() -> None:
    """Draw both panels into the documentation."""
    FIGURE.parent.mkdir(parents=True, exist_ok=True)
    chart = alt.hconcat(arrows(), paths()).configure_axis(grid=False, labelColor="#999", tickColor="#ccc")
    chart = chart.configure_view(stroke="#ddd").configure_legend(orient="bottom", labelFontSize=12)
    chart.save(FIGURE)
    print(FIGURE)


if __name__ == "__main__":
    main()
