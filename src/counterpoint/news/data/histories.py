"""Writing histories into a store: each kept once, what is known of its clicks beside it."""

from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Bool, Int, UInt64

from counterpoint.errors import BadRowError
from counterpoint.news.data.lookup import ArticleLookup
from counterpoint.news.data.rows import HISTORY_VALUES
from counterpoint.storage.arrays import GrowingArray, RaggedArray, SeenHashes, ranges
from counterpoint.storage.rows import BadRows

_COUNTS = (
    "histories", "histories left empty by unknown ids", "unknown ids in histories",
    "histories of more than 50 articles", "readers without a history row",
)  # fmt: skip


class HistoryWriter:
    """Takes the histories of impressions, and those that stand in a file of their own.

    A reader's history is one row for as long as it stays the same, which in MIND is a whole split. Unknown
    ids are dropped, and with them what is known of those clicks.

    Args:
        arrays: folder of the store's arrays.
        blocks: where the raw histories are kept until they are joined.
        articles: finds articles by id.
    """

    def __init__(self, arrays: Path, blocks: Path, articles: ArticleLookup) -> None:
        self.counts: Counter[str] = Counter(dict.fromkeys(_COUNTS, 0))
        self._arrays, self._blocks, self._articles = arrays, blocks, articles
        self._histories = RaggedArray(arrays, "history_articles", "history_offsets", np.int32)
        self._values: dict[str, GrowingArray] = {}
        self._seen = SeenHashes()
        self._empty = bytearray()
        self._written = 0

    @property
    def values(self) -> tuple[str, ...]:
        """What is known of any click."""
        return tuple(name for name in HISTORY_VALUES if name in self._values)

    def add(self, part: int, block: pl.DataFrame) -> Int[np.ndarray, " impressions"]:
        """Write the histories of impressions that were not seen before; return the row of each."""
        rows, new = self._seen.rows(_hashes(part, block))
        fresh = block[new]
        self.counts["readers without a history row"] += fresh["history"].null_count()
        self._write(fresh)
        return rows

    def add_own(self, part: int, file: Path, block: pl.DataFrame, bad: BadRows) -> None:
        """Write the histories that stand in a part's own file, one row a reader."""
        alone = block.with_columns(
            pl.lit(None, dtype=block.schema[name]).alias(name)
            for name in block.columns
            if name not in ("line", "reader")
        )
        _, new = self._seen.rows(_hashes(part, alone))
        if len(new) < len(block):
            again = np.ones(len(block), dtype=bool)
            again[new] = False
            for line, reader in block.filter(again).select("line", "reader").iter_rows():
                problem = f"{reader!r} came before"
                bad.add(BadRowError(file, line, "reader", problem, "keep one history a reader"), str(reader))
        self._write(block[new])

    def are_empty(self, rows: Int[np.ndarray, " histories"]) -> Bool[np.ndarray, " histories"]:
        """Return which histories came without any article."""
        empty: Bool[np.ndarray, " histories"] = np.array(self._empty, dtype=np.bool_)[rows]
        return empty

    def close(self) -> None:
        """Finish the arrays."""
        self._histories.close()
        for array in self._values.values():
            array.close()

    def _write(self, fresh: pl.DataFrame) -> None:
        """Write histories in their order."""
        if fresh.is_empty():
            return
        fresh = fresh.with_columns(pl.col("history").fill_null([]))
        lengths = fresh["history"].list.len().to_numpy().astype(np.int64)
        found = self._articles.rows(fresh["history"].explode(empty_as_null=False))
        known = found.is_not_null().to_numpy()
        kept = np.bincount(np.repeat(np.arange(len(lengths)), lengths)[known], minlength=len(lengths))
        for name in HISTORY_VALUES:
            self._write_values(name, fresh, lengths, known)
        self._histories.append(found.drop_nulls().to_numpy(), kept)
        self._empty += (lengths == 0).tobytes()
        self.counts["histories"] += len(fresh)
        self.counts["unknown ids in histories"] += int(found.null_count())
        self.counts["histories left empty by unknown ids"] += int(((lengths > 0) & (kept == 0)).sum())
        self.counts["histories of more than 50 articles"] += int((lengths > 50).sum())
        fresh.select("reader", articles="history").write_ipc(
            self._blocks / f"histories-{self._written:06d}.arrow", compression="lz4"
        )
        self._written += 1

    def _write_values(
        self,
        name: str,
        fresh: pl.DataFrame,
        lengths: Int[np.ndarray, " histories"],
        known: Bool[np.ndarray, " articles"],
    ) -> None:
        """Write what is known of the clicks on known articles; the file begins with the first value."""
        given = fresh[f"history_{name}"]
        values = np.full(len(known), np.nan, dtype=np.float32)
        told = given.is_not_null().to_numpy()
        starts = np.cumsum(lengths) - lengths
        values[ranges(starts[told], lengths[told])] = (
            given.drop_nulls().explode(empty_as_null=False).fill_null(float("nan")).to_numpy()
        )
        values = values[known]
        if name not in self._values:
            if np.isnan(values).all():
                return
            self._values[name] = GrowingArray(self._arrays / f"history_{name}.npy", np.float32)
            self._values[name].append(np.full(self._histories.total, np.nan))
        self._values[name].append(values)


def _hashes(part: int, block: pl.DataFrame) -> UInt64[np.ndarray, " rows"]:
    """Return what tells the histories of a part apart; one that is null is the reader's own."""
    values = (
        pl.col(f"history_{name}").list.eval(pl.element().cast(pl.String).fill_null("")).list.join(" ")
        for name in HISTORY_VALUES
    )
    columns = block.select("reader", pl.col("history").list.join(" "), *values)
    return columns.hash_rows(seed=part).to_numpy()
