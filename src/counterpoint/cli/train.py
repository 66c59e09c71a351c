"""``counterpoint train``."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from counterpoint.cli import options, show

if TYPE_CHECKING:
    from counterpoint.storage.prepared import Prepared
    from counterpoint.workload import Store


def train(
    recipe: Annotated[
        str, typer.Argument(help="A built-in recipe (see `counterpoint recipes`) or a TOML file.")
    ],
    data: options.NeededData,
    out: Annotated[Path | None, typer.Option(help="The run's folder. Default: runs/RECIPE-seedN.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of all that is drawn.")] = None,
    settings: options.Settings = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run.")] = False,
    format: options.Format = None,  # noqa: A002
    on_bad_row: options.OnBadRow = "stop",
) -> None:
    """Train a recipe; raw data is prepared on first use.

    Example: counterpoint train mtrec --data MINDsmall --set training.epochs=2 --seed 1
    """
    from counterpoint import api

    def told(prepared: "Prepared[Store]", notes: Sequence[str]) -> None:
        for note in notes:
            show.say(note)
        if not prepared.fresh:
            return  # prepared before, and told then
        for name, count in prepared.store.counts.items():
            if count:
                show.say(f"{count:>12,}  {name}")
        show.set_aside(prepared.store)

    with show.progress(
        interrupted="the same command with --resume goes on from the last checkpoint"
    ) as progress:
        run = api.train(
            recipe,
            data=data,
            out=out,
            seed=seed,
            settings=settings or [],
            resume=resume,
            format=format,
            on_bad_row=on_bad_row,
            prepared=told,
            progress=progress,
        )
    show.say(f"run: {run.path}")
    show.say(f"next: counterpoint evaluate {run.path}")
