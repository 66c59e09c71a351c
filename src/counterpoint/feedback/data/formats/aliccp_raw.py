r"""Ali-CCP as Tianchi publishes it: ``sample_skeleton_train.csv``, ``common_features_train.csv``; also test.

Neither has a header. A line of the skeleton is a sample: its number, click, purchase, the key of the features
that it has in common with others, the number of its own features, and these; a line of the common features
is a key, their number, and they. A feature is field, ``\x02``, id, ``\x03``, weight; ``\x01`` divides them.

Common features stay in their file. What grows with it is an index of where each line starts, some 60 bytes
for each; what grows with the skeleton is nothing. Beside the index there are one block of the skeleton, and
the features that its samples have in common, as far as columns ask for them. They are joined to a few samples
at a time, by how many ids these have then.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from counterpoint.errors import BadRowError, CounterpointError
from counterpoint.feedback.data import aliccp_features as features
from counterpoint.feedback.data.formats import Format
from counterpoint.progress import Progress
from counterpoint.storage import rows as raw
from counterpoint.storage.rows import BadRows, Check, drop_bad, opened
from counterpoint.storage.text_tables import csv_blocks

JOINED_IDS = 1 << 22
"""How many ids a block has after joining, or as many as one sample has."""

_SEPARATORS = features.Separators("\x01", "\x02", "\x03")
_SKELETON = ("sample", *features.LABELS, "key", "told", "features")
_COMMON = ("key", "told", "features")
_LINES = 1 << 16  # of common features, between two reports of progress


def _read(
    file: Path,
    partner: Path | None,
    wanted: Sequence[str],
    lists: Sequence[str],
    bad: BadRows,
    progress: Progress,
) -> Iterator[pl.DataFrame]:
    """Yield the rows of a skeleton with their common features, as `formats.Reader` says."""
    if partner is None:
        raise TypeError("the skeleton has no common features")
    fields = [name for name in wanted if name not in features.LABELS]
    common = _Common(partner, fields, bad, progress)
    unknown = Check(
        "common features",
        pl.col("_ids").is_null(),
        pl.format("'{}' has no sound line in {}", pl.col("key").str.slice(0, 40), pl.lit(partner.name)),
        "add the line or remove the row",
    )
    for block in csv_blocks(file, _SKELETON, _SKELETON, bad, progress, header=False, quotes=False):
        own = drop_bad(
            block.hstack(features.parsed(block["features"], _SEPARATORS, fields)), _checks(), bad, file
        )
        shared = common.of(own["key"])
        sized = own.join(shared.select("key", "_ids"), on="key", how="left", maintain_order="left")
        known = drop_bad(sized, [unknown], bad, file)
        for piece in _pieces(known):
            joined = piece.join(
                shared.drop("_ids"), on="key", how="left", maintain_order="left", suffix=" shared"
            )
            both = joined.with_columns(_both(joined, field) for field in fields)
            yield features.sound(both, wanted, lists, bad, file)


class _Common:
    """The common features of samples, looked up by their key; lines that no sample asks for are not checked.

    Args:
        file: of the common features.
        fields: whose ids are looked up.
        bad: what to do with malformed lines; those set aside are not found again.
        progress: told how far the reading of the index is.

    Raises:
        CounterpointError: the file is missing or empty, or a key stands there twice.
    """

    def __init__(self, file: Path, fields: Sequence[str], bad: BadRows, progress: Progress) -> None:
        self._file, self._fields, self._bad = file, fields, bad
        self._index = pl.concat(list(_index(file, progress)))
        twice = self._index.filter(pl.col("key").is_duplicated())
        if len(twice):
            raise CounterpointError(
                f"{file}: the key {twice['key'][0]!r} stands there twice; keep one line for each."
            )

    def of(self, keys: pl.Series) -> pl.DataFrame:
        """Return ``key``, the ids of each field, and ``_ids``, how many these are, for each key once."""
        asked = self._index.join(keys.unique().to_frame("key"), on="key", how="semi", maintain_order="left")
        found = [self._parsed(lines) for lines in self._lines(asked)]
        none = {name: pl.List(pl.String) for name in self._fields}
        empty = pl.DataFrame(schema={"key": pl.String, **none, "_ids": pl.Int64})
        return pl.concat([empty, *found])

    def _lines(self, asked: pl.DataFrame) -> Iterator[pl.DataFrame]:
        """Yield the lines in blocks: ``line`` and ``row``."""
        taken: list[tuple[int, str]] = []
        size = 0
        with opened(self._file) as stream:
            for line, start in asked.select("line", "start").iter_rows():
                stream.seek(start)
                text = stream.readline().rstrip(b"\r\n")
                try:
                    taken.append((line, text.decode("utf-8")))
                except UnicodeDecodeError as error:
                    problem = f"byte {error.start + 1} of the line is not UTF-8"
                    told = BadRowError(self._file, line, "text", problem, "save the file as UTF-8")
                    self._bad.add(told, text.decode("utf-8", errors="replace"))
                    self._forget([line])
                size += len(text)
                if size >= raw.BLOCK_BYTES:
                    yield _numbered(taken)
                    taken, size = [], 0
        yield _numbered(taken)

    def _parsed(self, lines: pl.DataFrame) -> pl.DataFrame:
        """Return the sound lines' keys and ids."""
        split = pl.col("row").str.splitn(",", len(_COMMON)).struct.rename_fields(list(_COMMON))
        rows = lines.with_columns(split.alias("_")).unnest("_")
        rows = rows.hstack(features.parsed(rows["features"], _SEPARATORS, self._fields))
        kept = drop_bad(rows, [_regular(), *_checks()], self._bad, self._file)
        if len(kept) < len(rows):
            self._forget(rows["line"].filter(~rows["line"].is_in(kept["line"].implode())).to_list())
        lengths = (pl.col(field).list.len().fill_null(0).cast(pl.Int64) for field in self._fields)
        ids = pl.sum_horizontal(pl.lit(0, pl.Int64), *lengths)
        return kept.select("key", *self._fields, ids.alias("_ids"))

    def _forget(self, lines: Sequence[int]) -> None:
        self._index = self._index.filter(~pl.col("line").is_in(lines))


def _index(file: Path, progress: Progress) -> Iterator[pl.DataFrame]:
    """Yield ``key``, ``line`` (from 1) and ``start`` (in bytes) of the lines of a file, in blocks."""
    schema = {"key": pl.String, "line": pl.Int64, "start": pl.Int64}
    taken: list[tuple[str, int, int]] = []
    with opened(file) as stream:
        total, start = file.stat().st_size, 0
        for line, text in enumerate(stream, 1):
            if text.rstrip(b"\r\n"):
                key = text.partition(b",")[0].rstrip(b"\r\n").decode("utf-8", errors="replace")
                taken.append((key, line, start))
            start += len(text)
            if line % _LINES == 0 or start == total:
                yield pl.DataFrame(taken, schema=schema, orient="row")
                progress(f"reading {file.parent.name}/{file.name}", start, total)
                taken = []


def _numbered(lines: Sequence[tuple[int, str]]) -> pl.DataFrame:
    return pl.DataFrame(lines, schema={"line": pl.Int64, "row": pl.String}, orient="row")


def _regular() -> Check:
    """Refuse lines of common features with more columns than three, or fewer."""
    found = pl.col("row").str.count_matches(",", literal=True) + 1
    return Check(
        "columns",
        found != len(_COMMON),
        pl.format("{} columns instead of {}", found, pl.lit(len(_COMMON))),
        "separate them by commas",
    )


def _checks() -> list[Check]:
    """Refuse features that cannot be read, or others than their number says: the line may be cut short."""
    told = pl.col("told").cast(pl.Int64, strict=False)
    shown = pl.col("told").str.slice(0, 40)
    return [
        features.fault_check(),
        Check(
            "number of features",
            told != pl.col("count"),
            pl.format("'{}' where there are {}", shown, pl.col("count")),
            "bring the whole line or remove it",
        ),
    ]


def _pieces(block: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Yield the rows of a block a few at a time, so that joining them makes no more ids than it may."""
    if block.is_empty():
        return
    before = block["_ids"].cum_sum().to_numpy() // JOINED_IDS
    starts = np.flatnonzero(np.diff(before, prepend=-1)).tolist()
    for start, end in zip(starts, [*starts[1:], len(block)], strict=True):
        yield block[start:end].drop("_ids")


def _both(joined: pl.DataFrame, field: str) -> pl.Expr:
    """Return the ids of a field, a sample's own ones first; nearly always one of the two has all."""
    shared = f"{field} shared"
    if joined[field].null_count() == len(joined):
        return pl.col(shared).alias(field)
    if joined[shared].null_count() == len(joined):
        return pl.col(field)
    return pl.concat_list(pl.col(field).fill_null([]), pl.col(shared).fill_null([]))


FORMAT = Format(
    name="aliccp-raw",
    summary="Ali-CCP as Tianchi publishes it: sample_skeleton_*.csv and common_features_*.csv",
    patterns=("sample_skeleton_train*.csv",),
    columns=features.columns,
    labels=features.labels,
    test=("sample_skeleton_test*.csv",),
    header=features.HEADER,
    read=_read,
    partner=("sample_skeleton", "common_features"),
)
