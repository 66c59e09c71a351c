"""Writing impressions into a store: ids become rows, histories are kept once."""

from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Int

from counterpoint.news.data.arrays import GrowingArray, RaggedArray, SeenHashes
from counterpoint.news.data.store import UNKNOWN

_COUNTS = (
    "impressions", "candidates", "clicks", "histories", "empty histories",
    "histories left empty by unknown ids", "unknown ids in histories", "unknown ids among candidates",
    "impressions without a click", "impressions without a non-click", "impression ids used again",
    "histories of more than 50 articles",
)  # fmt: skip


class ImpressionWriter:
    """Takes blocks of impressions.

    Unknown ids are dropped from histories; unknown candidates become the unknown article, so that the order
    and number of candidates, and with them the metrics, stay those of the raw files.

    Args:
        folder: the store's.
        ids: the row of each article id.
    """

    def __init__(self, folder: Path, ids: dict[str, int]) -> None:
        self.counts: Counter[str] = Counter(dict.fromkeys(_COUNTS, 0))
        self._rows = pl.DataFrame(
            {"id": list(ids), "row": list(ids.values())}, schema={"id": pl.String, "row": pl.Int32}
        )
        arrays = folder / "arrays"
        self._candidates = RaggedArray(arrays, "candidates", "candidate_offsets", np.int32)
        self._clicked = GrowingArray(arrays / "clicked.npy", np.int8)
        self._time = GrowingArray(arrays / "time.npy", np.int64)
        self._part = GrowingArray(arrays / "part.npy", np.uint8)
        self._history = GrowingArray(arrays / "history.npy", np.int32)
        self._histories = RaggedArray(arrays, "history_articles", "history_offsets", np.int32)
        self._seen_histories, self._seen_ids = SeenHashes(), SeenHashes()
        self._blocks = folder / "blocks"
        self._blocks.mkdir()
        self._written = 0

    def add(self, part: int, block: pl.DataFrame) -> None:
        """Add a block of impressions from the file of number ``part``."""
        if block.is_empty():
            return
        history = self._add_histories(part, block)
        candidates = self._lookup(block["candidates"].explode()).fill_null(UNKNOWN).to_numpy()
        clicked = block["clicked"].explode().to_numpy()
        lengths = block["candidates"].list.len().to_numpy()
        self._candidates.append(candidates, lengths)
        self._clicked.append(clicked)
        self._time.append(block["time"].dt.epoch("us").to_numpy())
        self._part.append(np.full(len(block), part))
        self._history.append(history)
        self._count(part, block, candidates, clicked, lengths)
        table = block.drop("line").with_columns(history=pl.Series(history), part=pl.lit(part, dtype=pl.UInt8))
        # Written again as Parquet once the splits are known, so here what is quick counts.
        table.write_ipc(self._blocks / f"impressions-{self._written:06d}.arrow", compression="lz4")
        self._written += 1

    def close(self) -> None:
        """Finish the arrays."""
        for array in (
            self._candidates, self._clicked, self._time, self._part, self._history, self._histories
        ):  # fmt: skip
            array.close()

    def _add_histories(self, part: int, block: pl.DataFrame) -> Int[np.ndarray, " impressions"]:
        """Write the histories not seen before; return the row of each impression's history.

        A reader's history is one row for as long as it stays the same, which in MIND is a whole split.
        """
        hashes = block.select("reader", pl.col("history").list.join(" ")).hash_rows(seed=part).to_numpy()
        rows, new = self._seen_histories.rows(hashes)
        fresh = block[new]
        found = self._lookup(fresh["history"].explode(empty_as_null=False))
        lengths = fresh["history"].list.len().to_numpy()
        known = found.is_not_null().to_numpy()
        kept = (
            np.add.reduceat(np.append(known, False), _starts(lengths)) * (lengths > 0)
            if len(lengths)
            else lengths
        )
        self._histories.append(found.drop_nulls().to_numpy(), kept)
        self.counts["histories"] += len(fresh)
        self.counts["unknown ids in histories"] += int(found.null_count())
        self.counts["histories left empty by unknown ids"] += int(((lengths > 0) & (kept == 0)).sum())
        self.counts["histories of more than 50 articles"] += int((lengths > 50).sum())
        fresh.select("reader", articles="history").write_ipc(
            self._blocks / f"histories-{self._written:06d}.arrow", compression="lz4"
        )
        return rows

    def _count(
        self,
        part: int,
        block: pl.DataFrame,
        candidates: Int[np.ndarray, " candidates"],
        clicked: Int[np.ndarray, " candidates"],
        lengths: Int[np.ndarray, " impressions"],
    ) -> None:
        """Count what the manifest tells of a block."""
        starts = _starts(lengths)
        told = clicked[starts] >= 0
        clicks = np.add.reduceat(clicked == 1, starts, dtype=np.int64)
        _, first = self._seen_ids.rows(block.select("impression").hash_rows(seed=part).to_numpy())
        self.counts.update(
            {
                "impressions": len(block),
                "candidates": len(candidates),
                "clicks": int(clicks.sum()),
                "empty histories": int((block["history"].list.len() == 0).sum()),
                "unknown ids among candidates": int((candidates == UNKNOWN).sum()),
                "impressions without a click": int((told & (clicks == 0)).sum()),
                "impressions without a non-click": int((told & (clicks == lengths)).sum()),
                "impression ids used again": len(block) - len(first),
            }
        )

    def _lookup(self, ids: pl.Series) -> pl.Series:
        """Return the row of each id, null where there is no such article."""
        table = pl.DataFrame({"id": ids}, schema={"id": pl.String})
        return table.join(self._rows, on="id", how="left", maintain_order="left")["row"]


def _starts(lengths: Int[np.ndarray, " rows"]) -> Int[np.ndarray, " rows"]:
    """Return where each list begins."""
    starts: Int[np.ndarray, " rows"] = np.cumsum(lengths, dtype=np.int64) - lengths
    return starts
