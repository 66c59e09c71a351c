"""One self-contained HTML page about one run, or about several side by side."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from counterpoint.comparison.contenders import Comparison
from counterpoint.comparison.judgement import compare_groups, is_simulated
from counterpoint.comparison.standing import Kind, Row, Value, best, metric_names, pooled, standing
from counterpoint.errors import CounterpointError, UsageError
from counterpoint.metrics.evaluated import Evaluation, by_task, floor_warnings, overall, unit_of
from counterpoint.report import gradients, lines, mistakes, page, side_by_side, sweeps
from counterpoint.report.figures import Bar, Figure, bars
from counterpoint.report.page import Html
from counterpoint.runs import ablation
from counterpoint.runs.ablation import Swept
from counterpoint.runs.folder import RunFolder
from counterpoint.runs.records import Group, RunRecord, grouped, read_run
from counterpoint.storage.files import new_file


@dataclass(frozen=True)
class _Judged:
    """How the recipes of a report compare on one split.

    Attributes:
        split: where.
        rows: recipes and floors.
        outcome: the comparison, why there can be none, or nothing where units were not kept one by one.
    """

    split: str
    rows: Sequence[Row]
    outcome: Comparison | CounterpointError | None


def write_report(
    runs: Sequence[Path],
    out: Path,
    *,
    title: str | None = None,
    baseline: str | None = None,
    metric: str | None = None,
    figures: Sequence[ablation.Figure] = (),
    sweep: Swept | None = None,
) -> Path:
    """Write the report of some run folders and return where it stands.

    Runs of one recipe with different seeds become one row, mean ± sample standard deviation. What a run
    folder does not hold is left out. The page needs no network, no script and no other file.

    Args:
        runs: the run folders, at least one.
        out: the page to write; an older one is replaced.
        title: of the page; by default the recipes' names.
        baseline: the recipe that others are set against; by default the first.
        metric: that decides between them; by default the first by unit.
        figures: to draw beside the usual ones.
        sweep: what was swept, for the figures that draw it.

    Raises:
        UsageError: there are no runs.
        CounterpointError: a folder is not that of a run, one of its files is broken, or the packages that
            draw are not installed.
    """
    if not runs:
        raise UsageError("A report needs at least one run; give the folder that `train` wrote.")
    read = [read_run(folder) for folder in dict.fromkeys(runs)]
    groups = grouped(read)
    names = list(dict.fromkeys(run.name for run in read))
    subtitle = (
        f"{len(read)} runs of {len(names)} recipe{'s' * (len(names) > 1)}"
        if len(read) > 1
        else _state(read[0])
    )
    if any(map(is_simulated, read)):
        subtitle += ", on simulated data"
    judged = _judged(groups, baseline, metric)
    content = [
        _warnings(groups),
        *_results(groups),
        *_comparisons(judged),
        *_chosen(groups, figures, sweep, judged),
        *_editorial(groups),
        *_calibration(groups),
        *_slices(groups),
        *mistakes.sections(groups),
        page.section("Losses", page.figures(lines.losses(groups))),
        page.section("Validation", page.figures(lines.validation(groups))),
        *gradients.sections(groups),
        _counts(groups),
        _recipes(groups),
        page.section("Runs", page.facts(_run_facts(groups))),
    ]
    written = page.document(title or ", ".join(names), subtitle, content)
    with new_file(out) as path:
        path.write_text(written, encoding="utf-8")
    return out


def results_table(rows: Sequence[Row], metrics: Sequence[str] | None = None) -> Html:
    """Return models and floors as a table: best in bold, what does not beat a floor in red.

    Args:
        rows: models and floors.
        metrics: the columns; by default all there are.
    """
    metrics = metric_names(rows) if metrics is None else metrics
    leaders = {metric: best(rows, metric) for metric in metrics}

    def cell(row: Row, metric: str) -> Html:
        content = _value(row.values.get(metric))
        if leaders[metric] is row:
            content = page.element("b", content)
        return page.element("td", content, class_="lost" if metric in row.lost else "")

    return page.table(
        [page.text(""), *map(page.text, metrics)],
        [
            page.row(
                row.name + (f" ({row.seeds} seeds)" if row.seeds > 1 else ""),
                [cell(row, metric) for metric in metrics],
                class_=row.kind.value,
            )
            for row in rows
        ],
    )


def _value(value: Value | None) -> Html:
    if value is None:
        return Html("")
    notes = [f"± {value.spread:.4f}"] if not math.isnan(value.spread) else []
    if value.limits:
        low, high = value.limits
        notes.append(f"{low:.4f} to {high:.4f}")
    under = [page.element("small", page.text(note)) for note in notes]
    return Html(page.text(Value(value.mean)) + "".join(under))


def _splits(groups: Sequence[Group]) -> Iterator[tuple[str, dict[str, list[Evaluation]]]]:
    """Yield every split with the evaluations of each group that has some, one for each seed."""
    splits = dict.fromkeys(split for group in groups for run in group.runs for split in run.evaluations)
    for split in splits:
        found = {
            group.label: [run.evaluations[split] for run in group.runs if split in run.evaluations]
            for group in groups
        }
        yield split, {label: evaluations for label, evaluations in found.items() if evaluations}


def _warnings(groups: Sequence[Group]) -> Html:
    sentences = []
    for group in groups:
        for run in group.runs:
            origin = f"{group.name_of(run)}, " if len(groups) > 1 or len(group.runs) > 1 else ""
            for split, evaluation in run.evaluations.items():
                own = [*evaluation.get("warnings", []), *floor_warnings(evaluation)]
                sentences += [f"{origin}{split}: {sentence}" for sentence in own]
    for split, evaluations in _splits(groups):
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


def _results(groups: Sequence[Group]) -> Iterator[Html]:
    for split, evaluations in _splits(groups):
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


def _judged(groups: Sequence[Group], baseline: str | None, metric: str | None) -> list[_Judged]:
    """Compare the recipes on every split that several were evaluated on, where that can be done."""
    judged = []
    for split, evaluations in _splits(groups):
        evaluated = [group for group in groups if len(evaluations.get(group.label, ())) == len(group.runs)]
        if len(evaluated) < 2:
            continue
        kept = all(
            RunFolder(run.folder).evaluated_units(split).is_file()
            for group in evaluated
            for run in group.runs
        )
        chosen = baseline if baseline in {group.label for group in evaluated} else None
        outcome: Comparison | CounterpointError | None = None
        try:
            if kept:
                outcome = compare_groups(evaluated, baseline=chosen, split=split, metric=metric)
        except CounterpointError as error:
            outcome = error
        judged.append(_Judged(split, standing(evaluations), outcome))
    return judged


def _comparisons(judged: Sequence[_Judged]) -> Iterator[Html]:
    """Bars, differences and what the auxiliary tasks bring, where several recipes were evaluated."""
    for each in judged:
        outcome = each.outcome
        if isinstance(outcome, CounterpointError):
            yield page.section(
                f"Against each other, {each.split}", page.element("p", page.text(outcome), class_="alarm")
            )
            continue
        limits = {found.row.name: found.limits for found in outcome.contenders} if outcome else {}
        yield page.section(f"Side by side, {each.split}", page.figures(_bars(each.rows, limits)))
        if outcome:
            yield side_by_side.section(side_by_side.improvements(outcome))
            yield side_by_side.section(side_by_side.differences(outcome))
            yield side_by_side.section(side_by_side.payoffs(outcome))
            yield side_by_side.section(side_by_side.costs(outcome))


def _bars(rows: Sequence[Row], limits: Mapping[str, Mapping[str, tuple[float, float]]]) -> Iterator[Figure]:
    """One chart for each metric that the floors have too; bars begin at what chance reaches."""
    floors = {row.name: row.values for row in rows if row.kind is Kind.FLOOR}
    for metric in overall(metric_names(rows)):
        beaten = {name: values[metric].mean for name, values in floors.items() if metric in values}
        values = [
            Bar(row.name, value.mean, limits.get(row.name, {}).get(metric, value.limits))
            for row in rows
            if row.kind is Kind.MODEL and (value := row.values.get(metric)) and not math.isnan(value.mean)
        ]
        if values and beaten:
            yield bars(metric, values, beaten, base=beaten.get("random", 0.0))


def _chosen(
    groups: Sequence[Group],
    figures: Sequence[ablation.Figure],
    sweep: Swept | None,
    judged: Sequence[_Judged],
) -> Iterator[Html]:
    """Draw the figures that an ablation asks for."""
    draw = {
        "cosine": lines.cosines,
        "losses": lines.losses,
        "target loss": lines.target_losses,
        "validation": lines.validation,
    }
    for figure in figures:
        if figure.draws != "sweep":
            chosen = [group for group in groups if not figure.recipes or group.label in figure.recipes]
            yield page.section(figure.title, page.figures(draw[figure.draws](chosen)))
            continue
        for each in judged:
            if sweep and isinstance(each.outcome, Comparison):
                note = page.element("p", page.text(sweeps.note(each.outcome)), class_="note")
                drawn = page.figures(sweeps.draw(each.outcome, sweep))
                yield page.section(f"{figure.title}, {each.split}", drawn, note)


def _editorial(groups: Sequence[Group]) -> Iterator[Html]:
    for split, evaluations in _splits(groups):
        yield side_by_side.section(side_by_side.editorial(evaluations, split))


def _calibration(groups: Sequence[Group]) -> Iterator[Html]:
    for split, evaluations in _splits(groups):
        drawn = lines.calibrations(evaluations)
        if drawn:
            note = page.element("p", page.text(lines.CALIBRATED), class_="note")
            yield page.section(f"Calibration, {split}", page.figures(drawn), note)


def _slices(groups: Sequence[Group]) -> Iterator[Html]:
    for split, evaluations in _splits(groups):
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
                    *(page.element("td", _value(values.get(metric))) for metric in metrics),
                ],
            )
            for title, values in rows
        ]
        header = [page.text(""), page.text(units), *map(page.text, metrics)]
        yield page.section(f"Slices, {split}", page.table(header, cells) if cells else Html(""))


def _size(value: Value | None) -> str:
    return f"{value.mean:,.0f}" if value else "—"


def _counts(groups: Sequence[Group]) -> Html:
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


def _recipes(groups: Sequence[Group]) -> Html:
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


def _run_facts(groups: Sequence[Group]) -> dict[str, dict[str, object]]:
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


def _state(run: RunRecord) -> str:
    facts = [
        f"RunRecord {run.folder.resolve().name}",
        f"seed {run.seed}" if run.seed is not None else "",
        run.facts.get("status"),
    ]
    return ", ".join(fact for fact in facts if fact)
