"""Writing impressions into a store: ids become rows, histories are kept once."""

from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Int

from counterpoint.news.data.fingerprints import digests
from counterpoint.news.data.histories import HistoryWriter
from counterpoint.news.data.lookup import ArticleLookup
from counterpoint.news.data.store import UNKNOWN
from counterpoint.storage.arrays import GrowingArray, RaggedArray, SeenHashes
from counterpoint.storage.keys import keys

_COUNTS = (
    "impressions", "candidates", "clicks", "readers", "empty histories", "unknown ids among candidates",
    "impressions without a click", "impressions without a non-click", "impression ids used again",
    "beyond-accuracy impressions",
)  # fmt: skip


class ImpressionWriter:
    """Takes blocks of impressions.

    Unknown ids are dropped from histories; unknown candidates become the unknown article, so that the order
    and number of candidates, and with them the metrics, stay those of the raw files.

    Args:
        folder: the store's.
        ids: the row of each article id.

    Attributes:
        histories: takes the histories that stand in a file of their own.
    """

    def __init__(self, folder: Path, ids: dict[str, int]) -> None:
        self._counts: Counter[str] = Counter(dict.fromkeys(_COUNTS, 0))
        self._articles = ArticleLookup(ids)
        arrays, self._blocks = folder / "arrays", folder / "blocks"
        self._blocks.mkdir()
        self.histories = HistoryWriter(arrays, self._blocks, self._articles)
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
