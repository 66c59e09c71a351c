"""``counterpoint evaluate``."""

from typing import Annotated

import typer

from counterpoint.cli import options, show


def evaluate(
    run: options.RunFolder,
    data: options.Data = None,
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "test",
    json: options.Json = None,
) -> None:
    """Score a run's best model beside the floors it must beat.

    Example: counterpoint evaluate runs/mtrec-seed0 --json result.json
    """
    from rich.console import Console

    from counterpoint import api
    from counterpoint.comparison.standing import Value, metric_names, standing
    from counterpoint.metrics.evaluated import by_task, overall, unit_of
    from counterpoint.reporting.tables import terminal_table
    from counterpoint.storage.files import write_json

    with show.progress() as progress:
        evaluation = api.evaluate(run, data=data, split=split, progress=progress)
    if json is not None:
        write_json(json, evaluation)
    console = Console()
    simulated = evaluation["data"]["simulated"]
    name = f"{run.name} (simulated {simulated})" if simulated else run.name
    rows = standing({name: [evaluation]})
    metrics = metric_names(rows)
    for shown in (overall(metrics), *by_task(metrics).values()):
        console.print(terminal_table(rows, shown))
    unit = unit_of(evaluation)
    for name, part in evaluation["slices"].items():
        metric = next(metric for metric in part if metric != unit)
        console.print(f"  {name}: {metric} {Value.of(part[metric])} on {part[unit]} {unit}", highlight=False)
    for name, count in evaluation["counts"].items():
        console.print(f"  {name}: {count:,}", highlight=False)
    for warning in evaluation["warnings"]:
        Console(stderr=True).print(f"[bold red]{warning}[/]", highlight=False)
