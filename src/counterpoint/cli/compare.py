"""``counterpoint compare``."""

from pathlib import Path
from typing import Annotated

import typer

from counterpoint.cli import options, show


def compare(
    data: options.NeededData,
    recipes: Annotated[
        list[str] | None, typer.Argument(metavar="RECIPE", help="Built-in recipes or TOML files.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each recipe, with seeds from 0.")] = 3,
    baseline: Annotated[
        str | None, typer.Option(help="The recipe that others are set against. Default: the first.")
    ] = None,
    ablation: Annotated[
        str | None,
        typer.Option(help="A paper's comparison: mtrec, metabalance, metabalance-relax … or a TOML file."),
    ] = None,
    balancer: Annotated[
        str | None, typer.Option(metavar="NAME,NAME…", help="Balancing methods to try on the one recipe.")
    ] = None,
    sweep: Annotated[
        str | None,
        typer.Option(metavar="KEY=VALUE,VALUE…", help="Values of a key to try on the one recipe."),
    ] = None,
    settings: options.Settings = None,
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "test",
    metric: Annotated[
        str | None,
        typer.Option(help="The one that decides. Default: the workload's first, as auc or ndcg@10."),
    ] = None,
    out: Annotated[Path, typer.Option(help="The folder of the runs and the result.")] = Path("runs/compare"),
    format: options.Format = None,  # noqa: A002
    on_bad_row: options.OnBadRow = "stop",
) -> None:
    """Train recipes with several seeds and say which is better, and how sure that is.

    Runs that are there already are kept, interrupted ones go on. Beside the table in the terminal the result
    is written as comparison.json, comparison.md and report.html.

    Example: counterpoint compare bert mtrec --data MINDsmall --seeds 3 --out runs/compare
    """
    from rich.console import Console
    from rich.text import Text

    from counterpoint.comparison.standing import metric_names
    from counterpoint.metrics.evaluated import overall
    from counterpoint.reporting import grids, side_by_side
    from counterpoint.reporting.svg import MISSING
    from counterpoint.reporting.tables import terminal_table
    from counterpoint.runs.folder import ComparisonFolder
    from counterpoint.studies.experiment import compare as run

    with show.resumable() as progress:
        found = run(
            recipes or [],
            data=data,
            seeds=seeds,
            baseline=baseline,
            ablation=ablation,
            balancers=[name.strip() for name in (balancer or "").split(",") if name.strip()],
            sweep=sweep,
            settings=settings or [],
            split=split,
            metric=metric,
            out=out,
            format=format,
            on_bad_row=on_bad_row,
            progress=progress,
        )
    console = Console()
    results, *others = found.grids
    console.print(Text(side_by_side.heading(found.comparison), style="bold"))
    rows = found.comparison.rows
    console.print(terminal_table(rows, overall(metric_names(rows))))
    show.say("\n".join(results.notes))
    # A table of many columns does not fit into a terminal; it stands in the report.
    for grid in (each for each in others if len(each.header) <= 6):
        console.print()
        console.print(grids.terminal(grid))
    files = ComparisonFolder(found.folder)
    show.say(f"written: {files.record}, {files.markdown.name} and {found.page or 'no report'}")
    if found.page is None:
        show.say(MISSING)
