"""What tells two splits apart: the same pairs of the same ids give the same digits."""

import hashlib
from collections.abc import Mapping

import numpy as np
import polars as pl
from jaxtyping import UInt64

from counterpoint.behaviors.data.store import Interactions
from counterpoint.storage.keys import keys

_FACTORS = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F)  # odd, so that no bit is lost


def fingerprint(
    split: Mapping[str, Interactions],
    users: UInt64[np.ndarray, " users"],
    items: UInt64[np.ndarray, " items"],
) -> str:
    """Return 16 hex digits of the pairs of each behaviour, whatever their order and numbering.

    A pair with the keys u and i is, with odd constants f and g, f u + g i modulo 2⁶⁴.

    Args:
        split: the pairs by behaviour.
        users: the key of each user's id.
        items: the key of each item's id.
    """
    of_user, of_item = (np.uint64(factor) for factor in _FACTORS)
    digest = hashlib.blake2b(digest_size=8)
    for behaviour, pairs in sorted(split.items()):
        numbers = users[pairs.users()] * of_user
        numbers += items[pairs.items] * of_item
        numbers.sort()
        digest.update(f"{behaviour} {len(pairs)} ".encode())
        digest.update(numbers.astype("<u8", copy=False).tobytes())
    return digest.hexdigest()


def id_keys(ids: pl.Series) -> UInt64[np.ndarray, " ids"]:
    """Return 64 bits of each id: a number itself, the key of a text."""
    return ids.to_numpy().astype(np.uint64) if ids.dtype.is_integer() else keys(ids)
