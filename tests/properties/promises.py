"""What `docs/methods.md` says of every method, for the tests that hold the code against it."""

import re
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "methods.md"


@dataclass(frozen=True)
class Line:
    """A line of the table.

    Attributes:
        method: its name for `make`.
        options: with their defaults, as in the code and in its order.
        needs: "target", "losses", "coordinates", or nothing.
        state: the names of what changes from step to step.
        passes: "1", "2" or "K", through the shared parameters.
        promises: the words that the page explains above the table.
        source: where the method was published.
    """

    method: str
    options: tuple[str, ...]
    needs: frozenset[str]
    state: frozenset[str]
    passes: str
    promises: frozenset[str]
    source: str


def lines() -> list[Line]:
    """Return the lines of all tables of methods."""
    rows = [row for row in PAGE.read_text(encoding="utf-8").splitlines() if row.startswith("| `")]
    cells = [[cell.strip() for cell in row.removeprefix("|").removesuffix("|").split("|")] for row in rows]
    return [
        Line(name.strip("`"), _parts(options), _set(needs), _set(state), passes, _set(promises), source)
        for name, options, needs, state, passes, promises, source in cells
    ]


def table() -> dict[str, Line]:
    """Return the lines of all tables of methods, by name."""
    return {line.method: line for line in lines()}


def explained() -> set[str]:
    """Return the promises that the page explains."""
    return set(re.findall(r"^- `([a-z ]+)`:", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE))


def lengths() -> dict[str, str]:
    """Return what the page says of how many times as long as one of K equal gradients their merge is."""
    section = PAGE.read_text(encoding="utf-8").partition("## How long the merged gradient is")[2]
    rows = re.findall(r"^\| ([^|]*[^| ]) \| (`.*`) \|$", section.partition("\n## ")[0], flags=re.MULTILINE)
    return {name: times for times, names in rows for name in re.findall(r"`(\w+)`", names)}


def promising(promise: str) -> list[str]:
    """Return the methods that promise something; at least one does."""
    methods = [line.method for line in lines() if promise in line.promises]
    assert methods, f"no method promises {promise!r}"
    return methods


def _parts(cell: str) -> tuple[str, ...]:
    return tuple(part.strip(" `") for part in cell.split(";") if part.strip(" `"))


def _set(cell: str) -> frozenset[str]:
    return frozenset(_parts(cell))
