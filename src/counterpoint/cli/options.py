"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

from counterpoint.workload import OnBadRow as Policy
from counterpoint.workload import formats, names

DATA_HELP = "Raw data or a prepared store."

RunFolder = Annotated[Path, typer.Argument(help="The run's folder, written by `counterpoint train`.")]
Data = Annotated[Path | None, typer.Option(help=f"{DATA_HELP} Default: the run's own store.")]
NeededData = Annotated[Path, typer.Option(help=DATA_HELP)]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the recipe; repeat for several."),
]
Format = Annotated[
    str | None,
    typer.Option(
        help=f"{'; '.join(', '.join(formats(name).names) for name in names())}; found by itself. "
        "Your own: module:OBJECT."
    ),
]
OnBadRow = Annotated[
    Policy,
    typer.Option(help="stop at the first malformed row, or skip: set them aside in a file, counted."),
]
Json = Annotated[Path | None, typer.Option(help="Also write the result as JSON to this file.")]

SimulatedFolder = Annotated[Path, typer.Option(help="The folder to write.")]
Readers = Annotated[int, typer.Option(help="Readers.")]
Articles = Annotated[int, typer.Option(help="Articles.")]
CategoryStrength = Annotated[float, typer.Option(help="How much categories drive clicks.")]
Users = Annotated[int, typer.Option(help="Users.")]
Days = Annotated[int, typer.Option(help="Days.")]
SimulationSeed = Annotated[int, typer.Option(help="Seed of every random choice.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]
