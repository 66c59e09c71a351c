"""One self-contained HTML page about one run, or about several side by side."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from counterpoint.comparison.contenders import Comparison
from counterpoint.comparison.judgement import compare_groups, is_simulated
from counterpoint.comparison.standing import Kind, Row, metric_names, standing
from counterpoint.errors import CounterpointError, UsageError
from counterpoint.metrics.evaluated import overall
from counterpoint.reporting import (
    gradients,
    grids,
    mistakes,
    page,
    sections,
    side_by_side,
    sweep_figures,
    training_figures,
)
from counterpoint.reporting.figures import Bar, bars
from counterpoint.reporting.page import Html
from counterpoint.reporting.svg import Figure
from counterpoint.runs import ablation
from counterpoint.runs.ablation import Swept
from counterpoint.runs.folder import RunFolder
from counterpoint.runs.records import Group, grouped, read_run
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
        else sections.state(read[0])
    )
    if any(map(is_simulated, read)):
        subtitle += ", on simulated data"
    judged = _judged(groups, baseline, metric)
    content = [
        sections.warnings(groups),
        *sections.results(groups),
        *_comparisons(judged),
        *_chosen(groups, figures, sweep, judged),
        *sections.editorial(groups),
        *sections.calibration(groups),
        *sections.slices(groups),
        *mistakes.sections(groups),
        *(page.section(title, page.figures(draw(groups))) for title, draw in training_figures.SECTIONS),
        *gradients.sections(groups),
        sections.counts(groups),
        sections.recipes(groups),
        page.section("Runs", page.facts(sections.run_facts(groups))),
    ]
    written = page.document(title or ", ".join(names), subtitle, content)
    with new_file(out) as path:
        path.write_text(written, encoding="utf-8")
    return out


def _judged(groups: Sequence[Group], baseline: str | None, metric: str | None) -> list[_Judged]:
    """Compare the recipes on every split that several were evaluated on, where that can be done."""
    judged = []
    for split, evaluations in sections.splits(groups):
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
            yield grids.section(side_by_side.improvements(outcome))
            yield grids.section(side_by_side.differences(outcome))
            yield grids.section(side_by_side.payoffs(outcome))
            yield grids.section(side_by_side.costs(outcome))


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
        "cosine": training_figures.cosines,
        "losses": training_figures.losses,
        "target loss": training_figures.target_losses,
        "validation": training_figures.validation,
    }
    for figure in figures:
        if figure.draws != "sweep":
            chosen = [group for group in groups if not figure.recipes or group.label in figure.recipes]
            yield page.section(figure.title, page.figures(draw[figure.draws](chosen)))
            continue
        for each in judged:
            if sweep and isinstance(each.outcome, Comparison):
                note = page.element("p", page.text(sweep_figures.note(each.outcome)), class_="note")
                drawn = page.figures(sweep_figures.draw(each.outcome, sweep))
                yield page.section(f"{figure.title}, {each.split}", drawn, note)
