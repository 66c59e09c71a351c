"""``counterpoint export``."""

from pathlib import Path
from typing import Annotated

import typer

from counterpoint.cli import options, show


def export(
    run: options.RunFolder,
    out: Annotated[Path, typer.Option(help="The folder; an older export there is replaced.")] = Path(
        "export"
    ),
    data: options.Data = None,
) -> None:
    """Write a feedback run's best model and its vocabulary for ONNX Runtime, and check that it scores alike.

    Example: counterpoint export runs/gradcraft-seed0 --out gradcraft-onnx
    """
    from counterpoint import api

    with show.progress() as progress:
        exported = api.export(run, out=out, data=data, progress=progress)
    print(f"{exported.rows:12,}  rows scored by both, probabilities equal to {exported.difference:.1g}")
    show.say(f"exported: {exported.folder}")
