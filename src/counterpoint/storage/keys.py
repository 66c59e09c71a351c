"""Stable 64-bit keys of ids: the same on every machine, and no way back to the id but guessing it."""

import hashlib
from collections.abc import Iterable

import numpy as np
from jaxtyping import UInt64


def key(name: str) -> int:
    """Return the 64-bit BLAKE2b hash of an id."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")


def keys(names: Iterable[str]) -> UInt64[np.ndarray, " names"]:
    """Return the key of each id."""
    return np.fromiter(map(key, names), dtype=np.uint64)
