"""``counterpoint submit``."""

from pathlib import Path
from typing import Annotated

import typer

from counterpoint.cli import options, show


def submit(
    run: options.RunFolder,
    data: options.Data = None,
    split: Annotated[
        str | None, typer.Option(help="Default: the unlabelled split, else test; of sentences both.")
    ] = None,
    out: Annotated[Path, typer.Option(help="The zip; for sentences a folder will do.")] = Path(
        "prediction.zip"
    ),
) -> None:
    """Write a run's predictions as MIND's prediction.txt or EB-NeRD's predictions.txt in a zip, and check it.

    Runs of sentences write a file for each task and split, as the course of paper 3 asks for them.

    \b
    Example: counterpoint submit runs/mtrec-seed0 --data MINDlarge --out prediction.zip
    Example: counterpoint submit runs/minbert-final-seed0 --out predictions
    """
    from counterpoint import api

    with show.progress() as progress:
        submission = api.submit(run, data=data, split=split, out=out, progress=progress)
    print(f"{submission.units:12,}  {submission.unit} of split {submission.split}, read back and equal")
    for name, value in submission.metrics.items():
        print(f"{value:12.4f}  {name}")
    for note in submission.notes:
        show.say(note)
    show.say(f"submission: {submission.path}")
