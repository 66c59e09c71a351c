"""What tells two splits apart: the same rows with the same labels give the same digits."""

import hashlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt64

from counterpoint.feedback.data.store import Rows
from counterpoint.storage.keys import keys

_FACTORS = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9)  # odd, so that no bit is lost


def fingerprint(
    rows: Rows,
    users: UInt64[np.ndarray, " users"] | None,
    items: UInt64[np.ndarray, " items"] | None,
    labels: Sequence[str],
) -> str:
    """Return 16 hex digits of a split's users, items and labels, whatever its order and numbering.

    A row with the keys u and i and the sum l of the keys of its labels is, with odd constants f, g and h,
    f u + g i + h l modulo 2⁶⁴.

    Args:
        rows: the split.
        users: the key of each user; none where rows count by themselves.
        items: the key of each item, or none.
        labels: their names.
    """
    of_user, of_item, of_labels = np.array(_FACTORS, dtype=np.uint64)
    numbers = (rows.users.astype(np.uint64) if users is None else users[rows.users]) * of_user
    if items is not None and rows.items is not None:
        numbers += items[rows.items] * of_item
    for column, key in enumerate(keys(labels) * of_labels):
        numbers[rows.labels[:, column] == 1] += key
    numbers.sort()
    digest = hashlib.blake2b(digest_size=8)
    digest.update(" ".join((str(len(numbers)), *sorted(labels))).encode())
    digest.update(numbers.astype("<u8", copy=False).tobytes())
    return digest.hexdigest()
