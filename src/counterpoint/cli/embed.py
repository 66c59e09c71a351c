"""``counterpoint embed``."""

from pathlib import Path
from typing import Annotated

import typer

from counterpoint.cli import options, show


def embed(
    run: options.RunFolder,
    file: Annotated[Path, typer.Argument(help="Sentences: .txt, one on each line, or .csv, .tsv, .jsonl.")],
    out: Annotated[Path, typer.Option(help="The vectors, as .parquet or .npy.")] = Path("vectors.parquet"),
    column: Annotated[str, typer.Option(help="The column of the sentences, where there are columns.")] = (
        "sentence"
    ),
) -> None:
    """Write the vectors of sentences, by a run of the workload sentences.

    Example: counterpoint embed runs/minbert-final-seed0 questions.txt --out vectors.parquet
    """
    from counterpoint import api

    with show.progress() as progress:
        rows = api.embed(run, file, out=out, column=column, tell=show.say, progress=progress)
    show.say(f"written: {rows:,} vectors in {out}")
