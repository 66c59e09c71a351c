"""What tells two splits apart: the same impressions give the same digits, whatever their texts are."""

import hashlib
from pathlib import Path

import numpy as np
from jaxtyping import Int, UInt64

from counterpoint.news.data.store import SPLITS

_BLOCK = 1 << 20
_FACTORS = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0xD6E8FEB86659FD93)  # odd, so that no bit is lost


def digests(
    articles: UInt64[np.ndarray, " candidates"],
    clicked: Int[np.ndarray, " candidates"],
    lengths: Int[np.ndarray, " impressions"],
    time: Int[np.ndarray, " impressions"],
) -> UInt64[np.ndarray, " impressions"]:
    """Return 64 bits of what each impression showed, what of it was clicked, and when.

    With keys aⱼ, labels cⱼ and odd constants f, g, h: Σⱼ (aⱼ + f (cⱼ + 2)) gʲ + h t, modulo 2⁶⁴.

    Args:
        articles: the key of every candidate's id.
        clicked: 1, 0 or -1.
        lengths: candidates of each impression, at least one.
        time: microseconds.
    """
    label, place, moment = (np.uint64(factor) for factor in _FACTORS)
    starts = np.cumsum(lengths) - lengths
    powers = np.cumprod(np.full(int(lengths.max()), place))
    terms = articles + label * (clicked.astype(np.int64) + 2).astype(np.uint64)
    terms *= powers[np.arange(len(articles)) - np.repeat(starts, lengths)]
    digest: UInt64[np.ndarray, " impressions"] = np.add.reduceat(terms, starts)
    digest += moment * time.astype(np.uint64)
    return digest


def fingerprints(arrays: Path) -> dict[str, str]:
    """Return 16 hex digits for each split that has impressions, and remove the digests they are made of."""
    split = np.load(arrays / "split.npy", mmap_mode="r")
    digest = np.load(arrays / "digest.npy", mmap_mode="r")
    hashes = [hashlib.blake2b(digest_size=8) for _ in SPLITS]
    filled = set()
    for start in range(0, len(split), _BLOCK):
        chosen = np.asarray(split[start : start + _BLOCK])
        for number in np.unique(chosen).tolist():
            hashes[number].update(digest[start : start + _BLOCK][chosen == number].tobytes())
            filled.add(number)
    (arrays / "digest.npy").unlink()
    return {SPLITS[number]: hashes[number].hexdigest() for number in sorted(filled)}
