"""``counterpoint report``."""

from pathlib import Path
from typing import Annotated

import typer


def report(
    runs: Annotated[list[Path], typer.Argument(help="One run's folder, or several to compare.")],
    out: Annotated[
        Path | None, typer.Option(help="The page. Default: report.html in the first run's folder.")
    ] = None,
) -> None:
    """Write one self-contained page about a run, or several side by side.

    Example: counterpoint report runs/bert-seed0 runs/mtrec-seed0 --out report.html
    """
    from counterpoint import api

    print(api.report(list(runs), out=out))
