"""Run the benchmarks: ``python -m benchmarks [NAME…]``; ``--docs`` writes docs/benchmarks.md's tables."""

import argparse
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks import (
    balance,
    encoding,
    evaluation,
    feedback,
    frozen,
    metrics,
    preparing,
    ranking,
    shopping,
    training,
)
from benchmarks.measure import Ratio

ALL = {
    "training": training.run,
    "frozen": frozen.run,
    "balance": balance.run,
    "encoding": encoding.run,
    "evaluation": evaluation.run,
    "metrics": metrics.run,
    "preparing": preparing.run,
    "shopping": shopping.run,
    "ranking": ranking.run,
    "feedback": feedback.run,
}
PAGE = Path(__file__).parent.parent / "docs" / "benchmarks.md"


@dataclass(frozen=True)
class Place:
    """Where a table of the page goes.

    Attributes:
        names: the benchmarks whose ratios are its rows.
        begin: the line before it
        end: and the one after it.
        command: what prints these ratios.
        note: what else is to be known of them.
    """

    names: tuple[str, ...]
    begin: str
    end: str
    command: str
    note: str = ""

    def filled(self, text: str, table: str) -> str:
        """Return the page with this table in place of the one that is there.

        Raises:
            ValueError: a marker is missing, is there twice, or they are in the wrong order.
        """
        for marker in (self.begin, self.end):
            if text.count(marker) != 1:
                raise ValueError(
                    f"{PAGE} must have the line {marker!r} once, not {text.count(marker)} times."
                )
        before, _, rest = text.partition(self.begin)
        _, found, after = rest.partition(self.end)
        if not found:
            raise ValueError(f"{PAGE} must have the line {self.end!r} after {self.begin!r}.")
        return f"{before}{self.begin}\n{table}\n{self.end}{after}"


PLACES = (
    Place(
        names=("balance",),
        begin="<!-- balance benchmarks: written by python -m benchmarks balance --docs -->",
        end="<!-- balance benchmarks: end -->",
        command="python -m benchmarks balance",
    ),
    Place(
        names=("shopping", "ranking", "feedback"),
        begin="<!-- logs: written by python -m benchmarks shopping ranking feedback --docs -->",
        end="<!-- logs: end -->",
        command="python -m benchmarks shopping ranking feedback",
    ),
    Place(
        names=("training", "frozen", "encoding", "evaluation", "metrics", "preparing"),
        begin="<!-- benchmarks: written by python -m benchmarks --docs -->",
        end="<!-- benchmarks: end -->",
        command="make benchmarks",
        note="MiniLM-L6 where there is an encoder",
    ),
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmarks named and print their ratios."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(ALL)}; default: all")
    parser.add_argument("--docs", action="store_true", help="write their tables into docs/benchmarks.md")
    options = parser.parse_args(arguments)
    unknown = set(options.names).difference(ALL)
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}; known: {', '.join(ALL)}")
    names = list(dict.fromkeys(options.names or ALL))
    places = [place for place in PLACES if options.docs and set(place.names).intersection(names)]
    try:
        _check(names, places)
    except ValueError as error:
        parser.error(str(error))
    print(machine())
    measured = {name: _measured(name) for name in names}
    if places:
        _write(places, measured)


def machine() -> str:
    """Return what decides how fast this machine is."""
    can = torch.cpu.get_capabilities()
    fast = [name for name in ("avx512_bf16", "amx_bf16") if can.get(name)]
    return (
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, "
        f"{can.get('cpu_name', platform.machine())}, bfloat16 instructions: {', '.join(fast) or 'none'}"
    )


def _check(names: Sequence[str], places: Sequence[Place]) -> None:
    """Raise `ValueError` if a table would lose rows or has no place on the page."""
    wanted = {*names, *(name for place in places for name in place.names)}
    missing = [name for name in ALL if name in wanted.difference(names)]
    if places and missing:
        whole = "" if wanted == set(ALL) else " ".join(name for name in ALL if name in wanted) + " "
        raise ValueError(
            f"without {', '.join(missing)} the page's table would lose rows;"
            f" run python -m benchmarks {whole}--docs"
        )
    text = PAGE.read_text(encoding="utf-8") if places else ""
    for place in places:
        place.filled(text, "")


def _measured(name: str) -> list[Ratio]:
    ratios = ALL[name]()
    for ratio in ratios:
        print(ratio, flush=True)
    return ratios


def _write(places: Sequence[Place], measured: Mapping[str, Sequence[Ratio]]) -> None:
    """Put every table into its place; what else the page has by now stays."""
    text = PAGE.read_text(encoding="utf-8")
    for place in places:
        ratios = [ratio for name in place.names for ratio in measured[name]]
        below = "; ".join(filter(None, (f"`{place.command}`", machine(), place.note)))
        text = place.filled(text, f"{_table(ratios)}\n\n{below}.")
    PAGE.write_text(text, encoding="utf-8")


def _table(ratios: Sequence[Ratio]) -> str:
    """Return the rows, with a column for what was measured beside them if any has something."""
    columns = 5 if any(ratio.beside for ratio in ratios) else 4
    cells = [("what", "against", "measured", "wanted", "beside it"), *map(_cells, ratios)]
    head, *rows = (f"| {' | '.join(row[:columns])} |" for row in cells)
    return "\n".join([head, "|---" * columns + "|", *rows])


def _cells(ratio: Ratio) -> tuple[str, ...]:
    bound = "at least" if ratio.at_least else "at most"
    measured, wanted = (f"{value}{ratio.unit}" for value in (f"{ratio.value:.2f}", f"{ratio.target:g}"))
    return ratio.what, ratio.against, measured, f"{bound} {wanted}", ratio.beside


if __name__ == "__main__":
    main()
