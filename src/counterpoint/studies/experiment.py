"""Experiments: recipes with several seeds on the same data, trained as far as is missing, and compared."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from counterpoint import api, workload
from counterpoint.comparison.contenders import Comparison
from counterpoint.comparison.judgement import compare_groups
from counterpoint.errors import UsageError
from counterpoint.opened_run import OpenedRun
from counterpoint.progress import Progress, named, silent
from counterpoint.reporting import grids, side_by_side
from counterpoint.reporting.document import write_report
from counterpoint.reporting.svg import can_draw
from counterpoint.runs import recipe as recipes
from counterpoint.runs.folder import ComparisonFolder, Run, RunFolder, data_difference, recipe_difference
from counterpoint.runs.recipe import Recipe
from counterpoint.runs.records import Group, read_run
from counterpoint.storage.files import new_file, read_json, write_json
from counterpoint.studies.plan import Plan, planned
from counterpoint.workload import OnBadRow, Preparation

_TEXTS = frozenset({"summary", "tune"})  # keys of a recipe that no result depends on


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
    grids: Sequence[grids.Grid]
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

        >>> counterpoint.compare(["bert", "mtrec"], data="MINDsmall", baseline="bert")  # doctest: +SKIP

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
    plan = planned(names, baseline, ablation, balancers, sweep, settings)
    folder = Path(out)
    # All that can be found wrong is found before anything is trained.
    resolved = {
        (entry.label, seed): api.read_recipe(entry.recipe, entry.given, seed)
        for seed in range(seeds)
        for entry in plan.entries
    }
    # Each store is opened once: what it keeps of one evaluation serves the next.
    opened: dict[Path, workload.Store] = {}
    stores = {}
    for entry in plan.entries:
        store = _store(resolved[entry.label, 0], data, format, on_bad_row, progress)
        stores[entry.label] = opened.setdefault(store.path, store)
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
            api.evaluate(place, data=store, split=split, progress=told)
    groups = [
        Group(entry.label, [read_run(places[entry.label, seed]) for seed in range(seeds)])
        for entry in plan.entries
    ]
    comparison = compare_groups(groups, baseline=plan.baseline, split=split, metric=metric, title=plan.title)
    return _written(comparison, groups, plan, folder, split)


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
    theirs, ours = (tomllib.loads(recipes.to_toml(each)) for each in (OpenedRun(run.path).recipe, recipe))
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
    found = [
        side_by_side.results(comparison),
        side_by_side.improvements(comparison),
        side_by_side.differences(comparison),
        side_by_side.payoffs(comparison),
        side_by_side.costs(comparison),
        measures,
        *side_by_side.task_by_task(comparison),
    ]
    shown = [grid for grid in found if grid is not None]
    files = ComparisonFolder(folder)
    swept = {"sweep": plan.sweep.as_dict()} if plan.sweep else {}
    write_json(files.record, {**comparison.as_dict(), **swept})
    with new_file(files.markdown) as file:
        file.write_text(grids.markdown(side_by_side.heading(comparison), shown), encoding="utf-8")
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
