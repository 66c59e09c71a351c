"""What may stand beside the logs: a simulation's truth, and vectors in MIND's ``.vec`` files."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Float32

from counterpoint.errors import BadRowError, CounterpointError
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


def copy_vectors(files: Sequence[Path], folder: Path) -> dict[str, int]:
    """Write the vectors of each ``entity_embedding.vec`` and ``relation_embedding.vec`` into the store.

    A store gets ``entity_vectors.npy`` (float32, one row an id) with ``entity_vectors.parquet`` (the ids),
    and the same for relations. An id that stands in several files is taken from the first.

    Returns:
        How many vectors there are of each kind.

    Raises:
        BadRowError: a row whose numbers are malformed, or not as many as in the rows before it.
    """
    counts: dict[str, int] = {}
    for kind in ("entity", "relation"):
        vectors: dict[str, Float32[np.ndarray, " size"]] = {}
        for file in (file for file in files if file.name.startswith(kind)):
            _read(file, vectors)
        if vectors:
            np.save(folder / f"{kind}_vectors.npy", np.stack(list(vectors.values())))
            pl.DataFrame({"id": list(vectors)}).write_parquet(folder / f"{kind}_vectors.parquet")
            counts[f"{kind} vectors"] = len(vectors)
    return counts


def _read(file: Path, vectors: dict[str, Float32[np.ndarray, " size"]]) -> None:
    """Add the vectors of ids not yet known."""
    size = len(next(iter(vectors.values()), ()))
    try:
        with file.open(encoding="utf-8") as stream:
            for number, line in enumerate(stream, 1):
                name, *numbers = line.rstrip("\n").rstrip("\t").split("\t")
                try:
                    vector = np.array(numbers, dtype=np.float32)
                except ValueError:
                    vector = np.empty(0, dtype=np.float32)
                if not len(vector) or (size and len(vector) != size):
                    problem = f"{len(numbers)} columns that are not {size or 'some'} numbers"
                    raise BadRowError(
                        file, number, "vector", problem, "restore the original file or remove it"
                    )
                size = len(vector)
                vectors.setdefault(name, vector)
    except UnicodeDecodeError as error:
        raise CounterpointError(f"{file}: not UTF-8 ({error.reason}); restore the original file.") from error
