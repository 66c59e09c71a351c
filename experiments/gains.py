"""Draw the README's figure from the results of the studies: ``python -m experiments.gains``.

What learning more than clicks gained over the clicks alone, on a real cut of MIND and on simulated news, with
the 95 % interval of the paired bootstrap over impressions. It follows the choice of light or dark.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path

from counterpoint.storage.files import read_json

HERE = Path(__file__).parent
FIGURE = HERE.parent / "docs" / "figures" / "gains.svg"
STUDIES = {"mind": "A cut of MIND, real", "simulated-surgery": "Simulated news"}
LABELS = {
    "mtrec": "MTRec: categories, entities",
    "mtrec-amf": "MTRec, categories and entities read too",
    "mtrec-sentiment": "MTRec with sentiment",
    "mtrec-without-surgery": "auxiliaries summed, weight 1",
    "sum, auxiliaries 3 times": "auxiliaries summed, weight 3",
    "mtrec, scale 0.3": "MTRec, weight 0.3",
    "mtrec, scale 1": "MTRec, weight 1",
    "mtrec, scale 3": "MTRec, weight 3",
}
WIDTH, LEFT, RIGHT, ROW, TOP = 800, 340, 30, 26, 58
LOW, HIGH = -0.02, 0.05
TITLE = "AUC gained over learning from clicks alone (three seeds, 95 % interval)"
STYLE = """
text { font: 14px system-ui, sans-serif; fill: #24292f }
.title { font-weight: 600 } .small { font-size: 12px; fill: #57606a }
.grid { stroke: #d0d7de } .zero { stroke: #57606a; stroke-dasharray: 4 3 }
.line { stroke: #57606a; stroke-width: 2 } .dot { fill: #57606a }
.certain .line { stroke: #0969da } .certain .dot { fill: #0969da }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 } .small { fill: #9198a1 }
.grid { stroke: #3d444d } .zero { stroke: #9198a1 }
.line { stroke: #9198a1 } .dot { fill: #9198a1 }
.certain .line { stroke: #58a6ff } .certain .dot { fill: #58a6ff }
}"""


@dataclass(frozen=True)
class Gain:
    """What a recipe gained in AUC over the recipe that learns from clicks alone, and its interval."""

    label: str
    mean: float
    low: float
    high: float


def gains(study: str) -> list[Gain]:
    """Return the gains of the recipes of a study that have auxiliary tasks."""
    result = read_json(HERE / "results" / f"{study}.json")
    return [
        Gain(LABELS[each["label"]], *(each["gain"][key] for key in ("mean_difference", "low", "high")))
        for each in result["does the auxiliary task pay"]
    ]


def svg() -> str:
    """Return the figure."""
    lines, height = [], TOP
    for study, title in STUDIES.items():
        units = read_json(HERE / "results" / f"{study}.json")["units"]
        lines.append(f'<text class="title" x="16" y="{height + 4}">{title}</text>')
        lines.append(_label(f"{units} impressions", height, kind="small"))
        height += ROW
        for gain in gains(study):
            lines += _row(gain, height)
            height += ROW
        height += ROW // 2
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height + 8}" role="img">',
            f"<title>{TITLE}</title>",
            f"<style>{STYLE}</style>",
            f'<text class="title" x="16" y="24">{TITLE}</text>',
            *_grid(height),
            *lines,
            "</svg>\n",
        ]
    )


def _across(value: float) -> float:
    return LEFT + (value - LOW) / (HIGH - LOW) * (WIDTH - LEFT - RIGHT)


def _grid(height: int) -> Iterator[str]:
    for step in range(round(LOW * 100), round(HIGH * 100) + 1):
        x, kind = _across(step / 100), "grid" if step else "zero"
        yield f'<line class="{kind}" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 8}" y2="{height - 18}"/>'
        yield f'<text class="small" x="{x:.1f}" y="{height}" text-anchor="middle">{step / 100:+.2f}</text>'


def _row(gain: Gain, y: int) -> list[str]:
    if not LOW <= gain.low <= gain.high <= HIGH:
        raise ValueError(f"{gain.label}: {gain.low:.3f} to {gain.high:.3f} is beyond the axis; widen it")
    kind = "certain" if gain.low > 0 else "open"
    low, mean, high = map(_across, (gain.low, gain.mean, gain.high))
    return [
        _label(escape(gain.label), y),
        f'<g class="{kind}"><line class="line" x1="{low:.1f}" x2="{high:.1f}" y1="{y}" y2="{y}"/>'
        f'<circle class="dot" cx="{mean:.1f}" cy="{y}" r="5"/></g>',
    ]


def _label(text: str, y: int, kind: str = "label") -> str:
    return f'<text class="{kind}" x="{LEFT - 16}" y="{y + 4}" text-anchor="end">{text}</text>'


if __name__ == "__main__":
    FIGURE.write_text(svg(), encoding="utf-8")
