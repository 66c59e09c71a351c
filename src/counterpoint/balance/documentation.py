"""The table of methods in the documentation, and the names that type checkers know, made from the classes."""

import inspect
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from counterpoint.balance.coordinates import CoordinateBalancer
from counterpoint.balance.engine import Balancer
from counterpoint.balance.lookup import available, find

PROMISES = {
    "scales": "merge(c·J) = c·merge(J) for c > 0 and given losses, if the gradients of the steps before were"
    " multiplied by c too.",
    "symmetric": "the order in which tasks are given does not matter, as long as the target, where there is"
    " one, stays the same task.",
    "agrees": "the merged gradient has a non-negative inner product with every task's: to first order, no"
    " loss rises.",
    "agrees with the target": "it has one with the target's gradient.",
    "sum without conflict": "if no two gradients have a negative inner product, the result is their plain"
    " sum.",
    "alone": "a task that a step has alone, where there is a target the target, keeps its gradient"
    " unchanged.",
}
"""What each word says that a method may have among its promises."""

_FAMILIES = (
    "Losses alone",
    "Magnitudes",
    "Directions",
    "Pareto and fairness",
    "Target first",
    "Coordinates",
)
_INHERITED = {"granularity": "whole", "passes": "exact", "every": 1}
_COLUMNS = ("method", "what it does", "options", "needs", "state", "passes", "promises", "length", "source")
_BEGIN, _END = "<!-- made by counterpoint.balance.documentation -->", "<!-- end -->"


def markdown(methods: Iterable[type[Balancer]] | None = None) -> str:
    """Return what promises mean and a table for every family, of these methods or of all of the package."""
    chosen = [find(name) for name in available()] if methods is None else list(methods)
    families = dict.fromkeys([*_FAMILIES, *(each.family for each in chosen)])
    parts = ["\n".join(f"- `{word}`: {meaning}" for word, meaning in PROMISES.items())]
    for family in families:
        members = [each for each in chosen if each.family == family]
        if members:
            lines = [_COLUMNS, ["---"] * len(_COLUMNS), *map(row, members)]
            parts.append(f"## {family}\n\n" + "\n".join(f"| {' | '.join(cells)} |" for cells in lines))
    return "\n\n".join(parts) + "\n"


def row(method: type[Balancer]) -> list[str]:
    """Return a method's cells in its table."""
    return [
        f"`{called(method)}`",
        summary(method),
        _words(options(method)),
        _words(needs(method)),
        _words(state(method)),
        method.cost,
        _words(method.promises),
        _words([method.length] if method.length else []),
        method.source,
    ]


def called(method: type[Balancer]) -> str:
    """Return the name by which `make` knows a class."""
    return vars(method).get("name") or f"{method.__module__}:{method.__qualname__}"


def summary(method: type[Balancer]) -> str:
    """Return the first sentence of a class's docstring."""
    return (
        (inspect.getdoc(method) or "")
        .partition("\n\n")[0]
        .partition(":  ")[0]
        .replace("\n", " ")
        .replace("|", "\\|")
    )


def options(method: type[Balancer]) -> list[str]:
    """Return a method's options with their defaults, in order, but for those that nearly all have."""
    told = []
    for name, parameter in inspect.signature(method).parameters.items():
        if parameter.default is parameter.empty:
            told.append(name)
        elif parameter.default != _INHERITED.get(name):
            told.append(f"{name}={parameter.default}")
    return told


def needs(method: type[Balancer]) -> list[str]:
    """Return what a method with its defaults has to be given beside inner products."""
    asked = {
        "coordinates": issubclass(method, CoordinateBalancer),
        "target": method.needs_target,
        "losses": method.needs_losses,
    }
    return [word for word, needed in asked.items() if needed]


def state(method: type[Balancer]) -> list[str]:
    """Return the names of what `state_dict` returns."""
    return [*method.stateful, *(method.buffers if issubclass(method, CoordinateBalancer) else ())]


def stub() -> str:
    """Return `methods/__init__.pyi`, by which type checkers know the classes that are found by themselves."""
    classes = sorted((find(name) for name in available()), key=lambda each: (each.__module__, each.__name__))
    imports = [f"from {each.__module__} import {each.__name__} as {each.__name__}" for each in classes]
    names = sorted((each.__name__ for each in classes), key=lambda name: (not name.isupper(), name))
    return "\n".join(
        [
            "# Made by `python -m counterpoint.balance.documentation`.",
            *imports,
            "",
            "__all__ = [",
            *(f'    "{name}",' for name in names),
            "]",
            "",
        ]
    )


def filled(page: str) -> str:
    """Return a page with the tables of the methods between its two marks."""
    before, after = page.split(_BEGIN)[0], page.split(_END)[1]
    return f"{before}{_BEGIN}\n\n{markdown()}\n{_END}{after}"


def _words(words: Sequence[str]) -> str:
    return "; ".join(f"`{word}`" for word in words)


if __name__ == "__main__":
    Path(__file__).with_name("methods").joinpath("__init__.pyi").write_text(stub(), encoding="utf-8")
    for given in map(Path, sys.argv[1:]):
        given.write_text(filled(given.read_text(encoding="utf-8")), encoding="utf-8")
