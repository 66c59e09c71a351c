"""What is to be compared: the rows of a comparison, from names, ablations, balancers and sweeps."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from counterpoint.errors import UsageError
from counterpoint.runs import recipe as recipes
from counterpoint.runs.ablation import Figure, Row, Sweep, Swept, read_ablation, written


@dataclass(frozen=True)
class Entry:
    """One row of a comparison.

    Attributes:
        label: how it is called; it names the runs' folders.
        recipe: a built-in name or a TOML file.
        settings: ``key=value`` pairs that override it.
    """

    label: str
    recipe: str
    settings: tuple[str, ...] = ()

    @property
    def folder(self) -> str:
        """The label as the name of a folder: what is no letter, digit or one of ``_.+-`` becomes a dash."""
        return re.sub(r"[^\w.+-]+", "-", self.label)

    @property
    def given(self) -> list[str]:
        """The settings, and the label as the recipe's name."""
        return [*self.settings, f"name={json.dumps(self.label, ensure_ascii=False)}"]


@dataclass(frozen=True)
class Plan:
    """What is to be compared.

    Attributes:
        entries: the rows.
        baseline: the label of one of them.
        title: of the comparison; empty for the labels.
        figures: to be drawn of the runs.
        sweep: the values that rows differ in, if they do in one.
    """

    entries: tuple[Entry, ...]
    baseline: str
    title: str = ""
    figures: tuple[Figure, ...] = ()
    sweep: Swept | None = None


def planned(
    names: Sequence[str | Path],
    baseline: str | None,
    ablation: str | Path | None,
    balancers: Sequence[str],
    sweep: str | None,
    settings: Sequence[str],
) -> Plan:
    """Return the rows that are asked for, each once."""
    given = read_ablation(ablation) if ablation is not None else None
    common = (*(given.settings if given else ()), *settings)
    wanted = [*(given.recipes if given else ()), *map(str, names)]
    tried = Sweep.of(sweep) if sweep is not None else given.sweep if given else None
    entries = _entries(wanted, given.rows if given else (), balancers, tried, common)
    figures = given.figures if given else ()
    swept = None
    if tried is not None:
        swept = Swept(tried.key, dict(zip((entry.label for entry in entries), tried.values, strict=True)))
        if not any(figure.draws == "sweep" for figure in figures):
            figures = (Figure(title=f"Against {tried.key}", draws="sweep"), *figures)
    baseline = baseline or (given.baseline if given else None)
    labels = [entry.label for entry in entries]
    if baseline is not None and baseline not in labels:
        name, at, method = baseline.partition("@")
        added = _balanced(name, method, common) if at else Entry(_label(baseline), baseline, common)
        if added.label not in labels:
            entries.insert(0, added)
        baseline = added.label
    if len(entries) < 2:
        raise UsageError(
            "nothing to compare: name two recipes or more, an --ablation, --balancer methods or a --sweep."
        )
    _refuse_doubles(entries)
    title = f"{given.title}: {given.source}" if given and given.source else given.title if given else ""
    return Plan(tuple(entries), baseline or entries[0].label, title, figures, swept)


def _entries(
    wanted: Sequence[str],
    rows: Sequence[Row],
    balancers: Sequence[str],
    sweep: Sweep | None,
    common: tuple[str, ...],
) -> list[Entry]:
    """Return the recipes wanted and the rows, or the one recipe with every method or value."""
    if balancers and sweep:
        raise UsageError("--balancer and a sweep each try something on one recipe; leave one of them out.")
    if (balancers or sweep) and (len(wanted) != 1 or rows):
        told = "--balancer tries methods" if balancers else "a sweep tries values"
        raise UsageError(f"{told} on one recipe, not on {len(wanted) + len(rows)}; name exactly one.")
    if balancers:
        return [_balanced(wanted[0], method, common) for method in balancers]
    if sweep:
        label = f"{_label(wanted[0])} {sweep.key}="
        return [
            Entry(label + written(value), wanted[0], (*common, sweep.setting(value)))
            for value in sweep.values
        ]
    return [
        *(Entry(_label(name), name, common) for name in wanted),
        *(Entry(row.label, row.recipe, (*common, *row.settings)) for row in rows),
    ]


def _label(recipe: str) -> str:
    """Return how a recipe is called."""
    return str(recipes.read_table(recipe)["name"])


def _balanced(recipe: str, method: str, settings: tuple[str, ...]) -> Entry:
    """Return a recipe with another balancing method and its default options."""
    return Entry(f"{_label(recipe)}@{method}", recipe, (*settings, f"balance.method={method}"))


def _refuse_doubles(entries: Sequence[Entry]) -> None:
    seen: dict[str, str] = {}
    for entry in entries:
        if entry.folder in seen:
            raise UsageError(
                f"{seen[entry.folder]} and {entry.recipe} are both called {entry.label!r}; "
                "name each once, and give each recipe file a name of its own."
            )
        seen[entry.folder] = entry.recipe
