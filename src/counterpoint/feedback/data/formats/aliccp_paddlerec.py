"""Ali-CCP as PaddleRec shares it: a line for each sample, ``id,click,buy,field:feature,field:feature,…``.

Only a block of lines is in memory.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl

from counterpoint.feedback.data import aliccp_features as features
from counterpoint.feedback.data.formats import Format
from counterpoint.progress import Progress
from counterpoint.storage.rows import BadRows, Check, drop_bad, line_blocks

_SEPARATORS = features.Separators(",", ":")
_COLUMNS = ("sample", *features.LABELS, "features")


def _read(
    file: Path,
    partner: Path | None,
    wanted: Sequence[str],
    lists: Sequence[str],
    bad: BadRows,
    progress: Progress,
) -> Iterator[pl.DataFrame]:
    """Yield the rows of a file, as `formats.Reader` says."""
    split = pl.col("row").str.splitn(",", len(_COLUMNS)).struct.rename_fields(list(_COLUMNS))
    found = pl.col("row").str.count_matches(",", literal=True) + 1
    regular = Check(
        "columns",
        pl.col("features").is_null(),
        pl.format("{} columns instead of {} or more", found, pl.lit(len(_COLUMNS))),
        "write id, click, buy and the features, separated by commas",
    )
    fields = [name for name in wanted if name not in features.LABELS]
    for block in line_blocks(file, bad, progress):
        rows = block.filter(pl.col("row") != "").with_columns(split.alias("_")).unnest("_")
        rows = drop_bad(rows, [regular], bad, file)
        rows = rows.hstack(features.parsed(rows["features"], _SEPARATORS, fields))
        rows = drop_bad(rows, [features.fault_check()], bad, file)
        yield features.sound(rows, wanted, lists, bad, file)


FORMAT = Format(
    name="aliccp-paddlerec",
    summary="Ali-CCP as PaddleRec shares it",
    patterns=("*aliccp*train*.txt", "*aliccp*small*.txt"),
    columns=features.columns,
    labels=features.labels,
    validation=("*aliccp*val*.txt",),
    test=("*aliccp*test*.txt",),
    header=features.HEADER,
    read=_read,
)
