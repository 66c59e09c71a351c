"""Writing impressions and histories into a store: ids become rows, each history is kept once."""

from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Bool, Int, UInt64

from counterpoint.errors import BadRowError
from counterpoint.news.data.fingerprints import digests
from counterpoint.news.data.rows import HISTORY_VALUES
from counterpoint.news.data.store import UNKNOWN
from counterpoint.storage.arrays import GrowingArray, RaggedArray, SeenHashes, ranges
from counterpoint.storage.keys import keys
from counterpoint.storage.rows import BadRows

_COUNTS = (
    "impressions", "candidates", "clicks", "readers", "empty histories", "unknown ids among candidates",
    "impressions without a click", "impressions without a non-click", "impression ids used again",
    "beyond-accuracy impressions",
)  # fmt: skip
_HISTORY_COUNTS = (
    "histories", "histories left empty by unknown ids", "unknown ids in histories",
    "histories of more than 50 articles", "readers without a history row",
)  # fmt: skip


class ImpressionWriter:
    """Takes blocks of impressions.

    Unknown ids are dropped from histories; unknown candidates become the unknown article, so that the order
    and number of candidates, and with them the metrics, stay those of the raw files.

    Args:
        folder: the store's.
        ids: the row of each article id.
        bad: takes malformed rows.

    Attributes:
        histories: takes the histories that stand in a file of their own.
    """

    def __init__(self, folder: Path, ids: dict[str, int], bad: BadRows) -> None:
        self._counts: Counter[str] = Counter(dict.fromkeys(_COUNTS, 0))
        self._articles = ArticleLookup(ids)
        arrays, self._blocks = folder / "arrays", folder / "blocks"
        self._blocks.mkdir()
        self.histories = HistoryWriter(arrays, self._blocks, self._articles, bad)
        self._candidates = RaggedArray(arrays, "candidates", "candidate_offsets", np.int32)
        kinds: dict[str, type[np.generic]] = {
            "clicked": np.int8, "time": np.int64, "part": np.uint8, "history": np.int32, "reader": np.int32,
            "reader_keys": np.uint64, "beyond": np.bool_, "digest": np.uint64, "id": np.uint64,
        }  # fmt: skip
        self._arrays = {name: GrowingArray(arrays / f"{name}.npy", kind) for name, kind in kinds.items()}
        self._readers = SeenHashes()
        self._written = 0

    @property
    def counts(self) -> dict[str, int]:
        """What was read, unknown and odd."""
        return {**self._counts, **self.histories.counts}

    def add(self, part: int, block: pl.DataFrame) -> None:
        """Add a block of impressions from the file of number ``part``."""
        if block.is_empty():
            return
        history = self.histories.add(part, block)
        reader, new = self._readers.rows(block.select("reader").hash_rows(seed=0).to_numpy())
        candidates, named = self._articles.rows_and_keys(block["candidates"].explode())
        clicked = block["clicked"].explode().to_numpy()
        lengths = block["candidates"].list.len().to_numpy().astype(np.int64)
        time = block["time"].dt.epoch("us").to_numpy()
        beyond = block["beyond"].fill_null(False).to_numpy()
        self._candidates.append(candidates, lengths)
        columns = {
            "clicked": clicked,
            "time": time,
            "part": np.full(len(block), part),
            "history": history,
            "reader": reader,
            "reader_keys": keys(block["reader"][new]),
            "beyond": beyond,
            "digest": digests(named, clicked, lengths, time),
            "id": block.select("impression").hash_rows(seed=part).to_numpy()[~beyond],
        }
        for name, values in columns.items():
            self._arrays[name].append(values)
        self._counts["impressions"] += len(block)
        self._counts["empty histories"] += int(self.histories.are_empty(history).sum())
        self._counts["beyond-accuracy impressions"] += int(beyond.sum())
        self._count(candidates, clicked, lengths)
        table = block.select(
            "impression",
            "reader",
            "time",
            pl.Series("history", history),
            "candidates",
            "clicked",
            pl.lit(part, dtype=pl.UInt8).alias("part"),
        )
        # Written again as Parquet once the splits are known, so here what is quick counts.
        table.write_ipc(self._blocks / f"impressions-{self._written:06d}.arrow", compression="lz4")
        self._written += 1

    def close(self) -> None:
        """Finish the arrays."""
        self.histories.close()
        self._candidates.close()
        for array in self._arrays.values():
            array.close()
        self._counts["readers"] = len(self._readers)
        self._counts["impression ids used again"] = _again(self._arrays["id"])
        self._arrays["id"].remove()

    def _count(
        self,
        candidates: Int[np.ndarray, " candidates"],
        clicked: Int[np.ndarray, " candidates"],
        lengths: Int[np.ndarray, " impressions"],
    ) -> None:
        """Count what the manifest tells of candidates and clicks."""
        starts = np.cumsum(lengths) - lengths
        told = clicked[starts] >= 0
        clicks = np.add.reduceat(clicked == 1, starts, dtype=np.int64)
        self._counts.update(
            {
                "candidates": len(candidates),
                "clicks": int(clicks.sum()),
                "unknown ids among candidates": int((candidates == UNKNOWN).sum()),
                "impressions without a click": int((told & (clicks == 0)).sum()),
                "impressions without a non-click": int((told & (clicks == lengths)).sum()),
            }
        )


def _again(ids: GrowingArray) -> int:
    """Return how many ids came before; the hashes were kept on disk, so only here they are all in memory."""
    hashes = np.sort(np.load(ids.path, mmap_mode="r"))
    return int((hashes[1:] == hashes[:-1]).sum())


class HistoryWriter:
    """Takes the histories of impressions, and those that stand in a file of their own.

    A reader's history is one row for as long as it stays the same, which in MIND is a whole split. Unknown
    ids are dropped, and with them what is known of those clicks.

    Args:
        arrays: folder of the store's arrays.
        blocks: where the raw histories are kept until they are joined.
        articles: finds articles by id.
        bad: takes malformed rows.
    """

    def __init__(self, arrays: Path, blocks: Path, articles: "ArticleLookup", bad: BadRows) -> None:
        self.counts: Counter[str] = Counter(dict.fromkeys(_HISTORY_COUNTS, 0))
        self._arrays, self._blocks, self._articles, self._bad = arrays, blocks, articles, bad
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

    def add_own(self, part: int, file: Path, block: pl.DataFrame) -> None:
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
                error = BadRowError(
                    file, line, "reader", f"{reader!r} came before", "keep one history a reader"
                )
                self._bad.add(error, str(reader))
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


class ArticleLookup:
    """The row and the key of every article id.

    Args:
        ids: the row of each article id.
    """

    def __init__(self, ids: dict[str, int]) -> None:
        self._table = pl.DataFrame(
            {"id": list(ids), "row": list(ids.values()), "key": keys(ids)},
            schema={"id": pl.String, "row": pl.Int32, "key": pl.UInt64},
        )

    def rows(self, ids: pl.Series) -> pl.Series:
        """Return the row of each id, null where there is no such article."""
        return self._joined(ids)["row"]

    def rows_and_keys(
        self, ids: pl.Series
    ) -> tuple[Int[np.ndarray, " articles"], UInt64[np.ndarray, " articles"]]:
        """Return the row of each id, `UNKNOWN` where there is no such article, and its key all the same."""
        found = self._joined(ids)
        missing = found.filter(pl.col("row").is_null()).select(pl.col("id").unique())
        if len(missing):
            named = missing.with_columns(other=pl.Series(keys(missing["id"]), dtype=pl.UInt64))
            found = found.join(named, on="id", how="left", maintain_order="left")
            found = found.with_columns(pl.coalesce("key", "other"))
        return found["row"].fill_null(UNKNOWN).to_numpy(), found["key"].to_numpy()

    def _joined(self, ids: pl.Series) -> pl.DataFrame:
        table = pl.DataFrame({"id": ids}, schema={"id": pl.String})
        return table.join(self._table, on="id", how="left", maintain_order="left")
