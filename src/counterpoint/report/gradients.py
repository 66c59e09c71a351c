"""How the gradients of the tasks got on, as sections of the report."""

from collections.abc import Iterator, Sequence

from counterpoint.report import lines, page, side_by_side
from counterpoint.report.conflicts import hurt_grid, pair_grid
from counterpoint.report.figures import Figure, conflicts, curves, smoothed
from counterpoint.report.page import Html
from counterpoint.runs.records import Group

_PAIRS = 6  # cosine charts of one run: with eight tasks there are 28 pairs


def sections(groups: Sequence[Group]) -> Iterator[Html]:
    """Yield charts and tables of norms, weights and conflicts, over all the trunk and by layer."""
    yield _balance(groups)
    yield side_by_side.section(hurt_grid(groups))
    for group in groups:
        yield side_by_side.section(pair_grid(group))
    yield _layers(groups)


def _balance(groups: Sequence[Group]) -> Html:
    """How the gradients got on: the charts of one run of each recipe, and the conflict rate of all."""
    drawn: list[Figure] = []
    for group in groups:
        run = group.runs[0]
        prefix = f"{group.name_of(run)}: " if len(groups) > 1 else ""
        cosines = run.balance.get("cosines", {})
        drawn += [
            conflicts(f"{prefix}{pair.replace('|', ' and ')}", cosines[pair])
            for pair in _telling_pairs(list(cosines))
        ]
        for field, title in (("norms", "gradient norms"), ("weights", "weights of the gradients")):
            named = [(name, smoothed(series)) for name, series in run.balance.get(field, {}).items()]
            if named:
                drawn.append(curves(prefix + title, named, logarithmic=field == "norms"))
    rates = [
        (group.label, smoothed(run.balance["conflict_rate"][""]))
        for group in groups
        for run in group.runs
        if "conflict_rate" in run.balance
    ]
    if rates:
        drawn.append(curves("share of pairs in conflict, moving mean", rates, percent=True))
    return page.section("Gradients", page.figures(drawn))


def _layers(groups: Sequence[Group]) -> Html:
    """The gradients' norms in every layer, of the first run of each recipe that looked at them apart."""
    drawn = []
    for group in groups:
        run = next((run for run in group.runs if "layer_norms" in run.balance), None)
        if run is not None:
            drawn.append((group.name_of(run), page.figures(lines.layers(run))))
    if not drawn:
        return Html("")
    note = (
        "Norms of the tasks' gradients, moving mean of the steps at which they were taken apart; as merged: "
        "times the weight that the method gave them."
    )
    charts = (
        [drawn[0][1]]
        if len(groups) == 1
        else [
            page.element("details", page.element("summary", page.text(label)), figures)
            for label, figures in drawn
        ]
    )
    return page.section("Gradients by layer", *charts, page.element("p", page.text(note), class_="note"))


def _telling_pairs(pairs: Sequence[str]) -> Sequence[str]:
    """The target against all auxiliaries merged, where it was recorded; otherwise the first pairs."""
    return [pair for pair in pairs if "+" in pair] or pairs[:_PAIRS]
