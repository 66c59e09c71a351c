"""Entity and relation vectors in MIND's ``.vec`` files: an id and its numbers, tab separated."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Float32

from counterpoint.errors import BadRowError, CounterpointError


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
