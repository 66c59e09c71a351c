"""The true click probabilities that a simulation keeps beside its logs."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from counterpoint.news.data.layout import Part
from counterpoint.storage.arrays import GrowingArray

_BLOCK = 20_000


def copy_truth(parts: Sequence[Part], arrays: Path) -> bool:
    """Write ``truth.npy``, the position-free click probability of every candidate, if all parts have theirs.

    The probabilities of ``FOLDER/train`` stand in ``FOLDER/truth/train.parquet``. Where they do not fit the
    impressions that were kept (rows were set aside), there is no truth to compare with.
    """
    files = [
        part.impressions.parent.parent / "truth" / f"{part.impressions.parent.name}.parquet" for part in parts
    ]
    if not all(file.is_file() for file in files):
        return False
    offsets = np.load(arrays / "candidate_offsets.npy", mmap_mode="r")
    truth = GrowingArray(arrays / "truth.npy", np.float32)
    row = 0
    for file in files:
        table = pl.scan_parquet(file, glob=False).select("position_free")
        for start in range(0, table.select(pl.len()).collect().item(), _BLOCK):
            block = table.slice(start, _BLOCK).collect()["position_free"]
            lengths = np.diff(offsets[row : row + len(block) + 1])
            if not np.array_equal(lengths, block.list.len().to_numpy()):
                truth.close()
                truth.path.unlink()
                return False
            truth.append(block.explode().to_numpy())
            row += len(block)
    truth.close()
    return True
