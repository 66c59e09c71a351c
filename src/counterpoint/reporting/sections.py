"""Sections of the page that tell what a run is and what was counted."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from counterpoint.comparison.standing import Value, metric_names, pooled, standing
from counterpoint.metrics.evaluated import Evaluation, by_task, floor_warnings, overall, unit_of
from counterpoint.reporting import grids, page, side_by_side, training_figures
from counterpoint.reporting.page import Html
from counterpoint.reporting.tables import results_table, shown_value
from counterpoint.runs.records import Group, RunRecord


def splits(groups: Sequence[Group]) -> Iterator[tuple[str, dict[str, list[Evaluation]]]]:
    """Yield every split with the evaluations of each group that has some, one for each seed."""
    splits = dict.fromkeys(split for group in groups for run in group.runs for split in run.evaluations)
    for split in splits:
        found = {
            group.label: [run.evaluations[split] for run in group.runs if split in run.evaluations]
            for group in groups
        }
        yield split, {label: evaluations for label, evaluations in found.items() if evaluations}


def warnings(groups: Sequence[Group]) -> Html:
    """Return what a reader must know before any number."""
    sentences = []
    for group in groups:
        for run in group.runs:
            origin = f"{group.name_of(run)}, " if len(groups) > 1 or len(group.runs) > 1 else ""
            for split, evaluation in run.evaluations.items():
                own = [*evaluation.get("warnings", []), *floor_warnings(evaluation)]
                sentences += [f"{origin}{split}: {sentence}" for sentence in own]
    for split, evaluations in splits(groups):
        units = unit_of(next(iter(evaluations.values()))[0])
        sizes = {
            evaluation.get("counts", {}).get(unit_of(evaluation))
            for seeds in evaluations.values()
            for evaluation in seeds
        }
        if len(sizes) > 1:
            sentences.append(
                f"{split}: the runs were evaluated on different numbers of {units}, so their rows cannot "
                "be compared; evaluate all on the same data."
            )
    items = [page.element("li", page.text(sentence)) for sentence in dict.fromkeys(sentences)]
    return page.element("ul", *items, class_="alarm", role="alert") if items else Html("")


def results(groups: Sequence[Group]) -> Iterator[Html]:
    """Yield the tables of every split."""
    for split, evaluations in splits(groups):
        rows = standing(evaluations)
        metrics = metric_names(rows)
        notes = ["The best value is bold; red values do not beat every floor."]
        if any(value.limits for row in rows for value in row.values.values()):
            notes.append("Below a value stands its 95 % interval.")
        if any(row.seeds > 1 for row in rows):
            notes.append("± is the sample standard deviation over seeds.")
        note = page.element("p", page.text(" ".join(notes)), class_="note")
        yield page.section(f"Results, {split}", results_table(rows, overall(metrics)), note)
        for metric, parts in by_task(metrics).items():
            yield page.section(f"Task by task, {metric}, {split}", results_table(rows, parts))


def editorial(groups: Sequence[Group]) -> Iterator[Html]:
    """Yield what the rankings put before readers."""
    for split, evaluations in splits(groups):
        yield grids.section(side_by_side.editorial(evaluations, split))


def calibration(groups: Sequence[Group]) -> Iterator[Html]:
    """Yield how far probabilities are right."""
    for split, evaluations in splits(groups):
        drawn = training_figures.calibrations(evaluations)
        if drawn:
            note = page.element("p", page.text(training_figures.CALIBRATED), class_="note")
            yield page.section(f"Calibration, {split}", page.figures(drawn), note)


def slices(groups: Sequence[Group]) -> Iterator[Html]:
    """Yield the metrics of parts of every split."""
    for split, evaluations in splits(groups):
        every = [evaluation.get("slices", {}) for seeds in evaluations.values() for evaluation in seeds]
        units = unit_of(next(iter(evaluations.values()))[0])
        rows = []
        for name in dict.fromkeys(name for slices in every for name in slices):
            for label, seeds in evaluations.items():
                measured = [evaluation.get("slices", {}).get(name, {}) for evaluation in seeds]
                title = name if len(evaluations) == 1 else f"{name}: {label}"
                rows.append((title, pooled(measured)))
        metrics = list(dict.fromkeys(metric for _, values in rows for metric in values if metric != units))
        cells = [
            page.row(
                title,
                [
                    page.element("td", page.text(_size(values.get(units)))),
                    *(page.element("td", shown_value(values.get(metric))) for metric in metrics),
                ],
            )
            for title, values in rows
        ]
        header = [page.text(""), page.text(units), *map(page.text, metrics)]
        yield page.section(f"Slices, {split}", page.table(header, cells) if cells else Html(""))


def _size(value: Value | None) -> str:
    return f"{value.mean:,.0f}" if value else "—"


def counts(groups: Sequence[Group]) -> Html:
    """Return what was counted."""
    counted = {}
    for group in groups:
        run = group.runs[0]
        manifest = _manifest(run)
        counted[group.label] = {
            "prepared": manifest.get("counts", {}),
            "split": manifest.get("splits", {}),
            **{split: evaluation.get("counts", {}) for split, evaluation in run.evaluations.items()},
        }
    return page.section("Data", page.facts(counted))


def recipes(groups: Sequence[Group]) -> Html:
    """Return the recipes in full."""
    return page.section(
        "Recipe" if len(groups) == 1 else "Recipes",
        *(
            page.element(
                "details",
                page.element("summary", page.text(group.label)),
                page.element("pre", page.text(group.runs[0].recipe)),
                open="open" if len(groups) == 1 else "",
            )
            for group in groups
            if group.runs[0].recipe
        ),
    )


def run_facts(groups: Sequence[Group]) -> dict[str, dict[str, object]]:
    """Return what is noted of every run."""
    apart = {"format", "name", "store"}
    return {
        group.name_of(run): {name: value for name, value in run.facts.items() if name not in apart}
        for group in groups
        for run in group.runs
    }


def _manifest(run: RunRecord) -> Mapping[str, Any]:
    """What preparing the run's data wrote down."""
    manifest: Mapping[str, Any] = (run.facts.get("store") or {}).get("manifest", {})
    return manifest


def state(run: RunRecord) -> str:
    """Return a run's state in a line."""
    facts = [
        f"Run {run.folder.resolve().name}",
        f"seed {run.seed}" if run.seed is not None else "",
        run.facts.get("status"),
    ]
    return ", ".join(fact for fact in facts if fact)
