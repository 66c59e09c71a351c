"""``counterpoint tune``."""

from pathlib import Path
from typing import Annotated

import typer

from counterpoint.cli import options, show


def tune(
    recipe: Annotated[str, typer.Argument(help="A recipe with a [tune] section: built in or a TOML file.")],
    data: options.NeededData,
    trials: Annotated[int, typer.Option(min=1, help="Trials, those of an earlier call included.")] = 20,
    out: Annotated[Path | None, typer.Option(help="The search's folder. Default: runs/tune-RECIPE.")] = None,
    settings: options.Settings = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of what is proposed.")] = 0,
    format: options.Format = None,  # noqa: A002
    on_bad_row: options.OnBadRow = "stop",
) -> None:
    """Search a recipe's settings for the best validation metric; the test split is never looked at.

    The ranges stand in the recipe's section [tune]: a key with {low, high, log, step} or a list of choices.

    \b
      [tune]
      training.learning_rate = {low = 1e-5, high = 1e-3, log = true}
      balance.scale = [0.1, 0.3, 1.0]

    Example: counterpoint tune mine.toml --data MINDsmall --trials 20 --out runs/tune
    """
    from rich.console import Console

    from counterpoint.reporting.grids import terminal
    from counterpoint.studies.search import tune as run

    with show.resumable() as progress:
        found = run(
            recipe,
            data=data,
            trials=trials,
            settings=settings or [],
            seed=seed,
            out=out,
            format=format,
            on_bad_row=on_bad_row,
            progress=progress,
        )
    Console().print(terminal(found.trials))
    for note in found.trials.notes:
        show.say(note)
    show.say(f"best run: {found.run}")
    show.say(f"next: counterpoint train {found.recipe} --data {data}")
