"""Experiments: recipes with several seeds on the same data, trained as far as is missing, and compared."""

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from counterpoint import api, workload
from counterpoint.comparison.contenders import Comparison
from counterpoint.comparison.judgement import compare_groups
from counterpoint.errors import UsageError
from counterpoint.progress import Progress, named, silent
from counterpoint.report import side_by_side
from counterpoint.report.document import write_report
from counterpoint.report.figures import can_draw
from counterpoint.runs import recipe as recipes
from counterpoint.runs.ablation import Figure, Row, Sweep, Swept, read_ablation, written
from counterpoint.runs.folder import ComparisonFolder, Run, RunFolder, data_difference, recipe_difference
from counterpoint.runs.recipe import Recipe
from counterpoint.runs.records import Group, read_run
from counterpoint.storage.files import new_file, read_json, write_json
from counterpoint.trained import Trained
from counterpoint.workload import OnBadRow, Preparation

_TEXTS = frozenset({"summary", "tune"})  # keys of a recipe that no result depends on


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


@dataclass(frozen=True)
class Experiment:
    """What came out, and where it stands.

    Attributes:
        comparison: the recipes against the baseline.
        folder: of the runs, of comparison.json, comparison.md and report.html.
        grids: its tables.
        page: the report; none where the packages that draw are not installed.
    """

    comparison: Comparison
    folder: Path
    grids: Sequence[side_by_side.Grid]
    page: Path | None


def compare(
    names: Sequence[str | Path] = (),
    *,
    data: str | Path,
    seeds: int = 3,
    baseline: str | None = None,
    ablation: str | Path | None = None,
    balancers: Sequence[str] = (),
    sweep: str | None = None,
    settings: Sequence[str] = (),
    split: str = "test",
    metric: str | None = None,
    out: str | Path = "runs/compare",
    format: str | None = None,  # noqa: A002  # the command's own word
    on_bad_row: OnBadRow = "stop",
    progress: Progress = silent,
) -> Experiment:
    """Train, evaluate and compare recipes with several seeds; what is there already is kept.

    The runs stand in ``out/LABEL-seedN``. An interrupted one goes on, a finished one is not trained again and
    an evaluated one not evaluated again, as long as recipe and data are the same; one that differs is refused
    before any work is done. The result is written as ``comparison.json``, ``comparison.md`` and
    ``report.html``.

    Args:
        names: built-in recipes or TOML files.
        data: a raw folder or a prepared store.
        seeds: how many, from 0.
        baseline: what all are set against; a recipe that is added if it is not among them. By default the
            ablation's, else the first.
        ablation: a built-in ablation or a TOML file, whose recipes and settings are added.
        balancers: balancing methods, with their default options, to try on the one recipe given.
        sweep: ``KEY=VALUE,VALUE…``, values of one key to try on the one recipe given.
        settings: ``key=value`` pairs that override every recipe.
        split: to evaluate.
        metric: that decides; by default the first by impression.
        out: the folder.
        format: of the raw folder; found by itself.
        on_bad_row: stop at the first malformed row, or set them aside.
        progress: told how far the work is.

    Raises:
        UsageError: a name, key or value is wrong, or ``out`` holds a run of another recipe or other data.
        CounterpointError: the data is bad, the results cannot be compared, or a file cannot be written.
    """
    if seeds < 1:
        raise UsageError(f"--seeds {seeds}: there must be at least one.")
    plan = _plan(names, baseline, ablation, balancers, sweep, settings)
    folder = Path(out)
    # All that can be found wrong is found before anything is trained.
    resolved = {
        (entry.label, seed): api.read_recipe(entry.recipe, entry.given, seed)
        for seed in range(seeds)
        for entry in plan.entries
    }
    stores = {}
    for entry in plan.entries:
        stores[entry.label] = _store(resolved[entry.label, 0], data, format, on_bad_row, progress)
    places = {
        (entry.label, seed): ComparisonFolder(folder).run(entry.folder, seed)
        for seed in range(seeds)
        for entry in plan.entries
    }
    for key, place in places.items():
        _refuse_another(place, resolved[key], stores[key[0]].manifest)

    for number, ((label, seed), place) in enumerate(places.items(), 1):
        told = named(progress, f"{number}/{len(places)} {label}, seed {seed}")
        store = stores[label]
        if not RunFolder(place).begun or not Run.open(place).done:
            entry = next(entry for entry in plan.entries if entry.label == label)
            api.train(
                entry.recipe,
                data=store.path,
                out=place,
                seed=seed,
                settings=entry.given,
                resume=True,
                on_bad_row=on_bad_row,
                progress=told,
            )
        if not _evaluated(place, split, store):
            api.evaluate(place, data=store.path, split=split, progress=told)
    groups = [
        Group(entry.label, [read_run(places[entry.label, seed]) for seed in range(seeds)])
        for entry in plan.entries
    ]
    comparison = compare_groups(groups, baseline=plan.baseline, split=split, metric=metric, title=plan.title)
    return _written(comparison, groups, plan, folder, split)


def _plan(
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


def _store(
    recipe: Recipe,
    data: str | Path,
    format_name: str | None,
    on_bad_row: OnBadRow,
    progress: Progress,
) -> workload.Store:
    """Return the prepared store of the data for a recipe."""
    preparation = Preparation(format_name, on_bad_row=on_bad_row, progress=progress)
    return workload.prepare(Path(data), recipe, preparation).store


def _refuse_another(folder: Path, recipe: Recipe, manifest: Mapping[str, Any]) -> None:
    """Refuse a run that was made with another recipe or on other data."""
    if not RunFolder(folder).begun:
        return
    run = Run.open(folder)
    theirs, ours = (tomllib.loads(recipes.to_toml(each)) for each in (Trained(run.path).recipe, recipe))
    difference = recipe_difference(theirs, ours, _TEXTS)
    difference = difference or data_difference(run.facts["store"]["manifest"], manifest)
    if difference is not None:
        raise UsageError(
            f"{folder}: a run with {difference}; choose another --out, or remove that folder to train anew."
        )


def _evaluated(folder: Path, split: str, store: workload.Store) -> bool:
    """Return whether a finished run is evaluated on this store's split, impression by impression."""
    files = RunFolder(folder)
    if not (files.evaluation(split).is_file() and files.evaluated_units(split).is_file()):
        return False
    written = read_json(files.evaluation(split))
    made_on = written.get("data", {})
    fingerprint = store.manifest.get("fingerprints", {}).get(split)
    same = (
        made_on.get("store") == str(store.path.resolve())
        if fingerprint is None
        else made_on.get("fingerprint") == fingerprint
    )
    return bool(written.get("trained")) and same


def _written(
    comparison: Comparison, groups: Sequence[Group], plan: Plan, folder: Path, split: str
) -> Experiment:
    """Write the comparison in its three forms."""
    measures = side_by_side.editorial(
        {group.label: [run.evaluations[split] for run in group.runs] for group in groups}, split
    )
    grids = [
        side_by_side.results(comparison),
        side_by_side.improvements(comparison),
        side_by_side.differences(comparison),
        side_by_side.payoffs(comparison),
        side_by_side.costs(comparison),
        measures,
        *side_by_side.task_by_task(comparison),
    ]
    shown = [grid for grid in grids if grid is not None]
    files = ComparisonFolder(folder)
    swept = {"sweep": plan.sweep.as_dict()} if plan.sweep else {}
    write_json(files.record, {**comparison.as_dict(), **swept})
    with new_file(files.markdown) as file:
        file.write_text(side_by_side.markdown(side_by_side.heading(comparison), shown), encoding="utf-8")
    page = files.report if can_draw() else None
    if page is not None:
        write_report(
            [run.folder for group in groups for run in group.runs],
            page,
            title=side_by_side.heading(comparison),
            baseline=plan.baseline,
            metric=comparison.metric,
            figures=plan.figures,
            sweep=plan.sweep,
        )
    return Experiment(comparison, folder, shown, page)
