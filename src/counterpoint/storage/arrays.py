"""Flat arrays that grow on disk and are memory-mapped afterwards."""

from pathlib import Path
from typing import IO, Any

import numpy as np
from jaxtyping import Int, Shaped, UInt64


class GrowingArray:
    """A one-dimensional ``.npy`` file that is written piece by piece; between two pieces it is closed."""

    def __init__(self, path: Path, dtype: type[np.generic]) -> None:
        self.path, self.dtype, self.length = path, np.dtype(dtype), 0
        with path.open("wb") as file:
            self._write_header(file)

    def append(self, values: Shaped[np.ndarray, " values"]) -> None:
        """Add values at the end."""
        with self.path.open("ab") as file:
            file.write(np.ascontiguousarray(values, dtype=self.dtype).data)
        self.length += len(values)

    def close(self) -> None:
        """Write the final length; numpy's header leaves room for it."""
        with self.path.open("r+b") as file:
            self._write_header(file)

    def remove(self) -> None:
        """Remove the file."""
        self.path.unlink()

    def _write_header(self, file: IO[bytes]) -> None:
        header = {
            "descr": np.lib.format.dtype_to_descr(self.dtype),
            "fortran_order": False,
            "shape": (self.length,),
        }
        np.lib.format.write_array_header_1_0(file, header)


class RaggedArray:
    """Lists of numbers: all values in one file, where each list begins in another."""

    def __init__(self, folder: Path, values: str, offsets: str, dtype: type[np.generic]) -> None:
        self._values = GrowingArray(folder / f"{values}.npy", dtype)
        self._offsets = GrowingArray(folder / f"{offsets}.npy", np.int64)
        self._offsets.append(np.zeros(1, dtype=np.int64))

    def __len__(self) -> int:
        return self._offsets.length - 1

    @property
    def total(self) -> int:
        """How many values all lists hold."""
        return self._values.length

    def append(self, values: Shaped[np.ndarray, " values"], lengths: Int[np.ndarray, " lists"]) -> None:
        """Add lists whose values stand one after another."""
        self._offsets.append(self._values.length + np.cumsum(lengths, dtype=np.int64))
        self._values.append(values)

    def close(self) -> None:
        """Finish both files."""
        self._values.close()
        self._offsets.close()

    def remove(self) -> None:
        """Remove both files."""
        self._values.remove()
        self._offsets.remove()


class SeenHashes:
    """The row under which each 64-bit hash was first seen: 12 bytes a hash, whatever it stands for."""

    def __init__(self) -> None:
        self._hashes = np.empty(0, dtype=np.uint64)
        self._rows = np.empty(0, dtype=np.int32)

    def __len__(self) -> int:
        return len(self._hashes)

    def rows(
        self, hashes: UInt64[np.ndarray, " values"]
    ) -> tuple[Int[np.ndarray, " values"], Int[np.ndarray, " new"]]:
        """Return the row of each hash and the places of those never seen before, which get the next rows."""
        unique, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
        place = np.searchsorted(self._hashes, unique)
        known = place < len(self._hashes)
        known[known] = self._hashes[place[known]] == unique[known]
        rows = np.empty(len(unique), dtype=np.int32)
        rows[known] = self._rows[place[known]]
        new = np.flatnonzero(~known)
        in_order = new[np.argsort(first[new])]
        rows[in_order] = len(self._hashes) + np.arange(len(in_order), dtype=np.int32)
        self._hashes = np.insert(self._hashes, place[new], unique[new])
        self._rows = np.insert(self._rows, place[new], rows[new])
        return rows[inverse], first[in_order]


def gather(
    values: Any, offsets: Any, rows: Int[np.ndarray, " rows"]
) -> tuple[Shaped[np.ndarray, " values"], Int[np.ndarray, " rows"]]:
    """Return the lists at ``rows`` of a ragged array, one after another, and their lengths."""
    starts = np.asarray(offsets[rows])
    lengths = np.asarray(offsets[rows + 1]) - starts
    return np.asarray(values[ranges(starts, lengths)]), lengths


def ranges(starts: Int[np.ndarray, " rows"], lengths: Int[np.ndarray, " rows"]) -> Int[np.ndarray, " values"]:
    """Return ``start, start + 1, …`` of every row, one after another."""
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    return np.repeat(starts - ends + lengths, lengths) + np.arange(total)
