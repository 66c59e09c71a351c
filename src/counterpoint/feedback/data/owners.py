"""Which columns belong to the item: they are the same whoever views it, as its author is."""

import numpy as np
from jaxtyping import Float, Int, Shaped

from counterpoint.feedback.data.schema import Schema
from counterpoint.feedback.data.store import Rows

_LOOKED_AT = 1 << 20  # rows


def columns_of_items(rows: Rows, schema: Schema) -> list[str]:
    """Return the columns that rows share with their item's last row more often than with their user's.

    Who recommends an item takes these columns from the item and all others from the user.

    Args:
        rows: of training.
        schema: their columns.
    """
    if rows.items is None:
        return []
    # Of many rows, evenly spaced ones will do: what is compared takes more memory than the columns do.
    looked = np.arange(0, len(rows), -(-len(rows) // _LOOKED_AT) or 1)
    of_item, of_user = (_earlier(side[looked]) for side in (rows.items, rows.users))
    ids, numbers = rows.ids[looked], rows.numbers[looked]
    columns: dict[str, Shaped[np.ndarray, " rows"]] = {
        **{column.name: ids[:, place] for place, column in enumerate(schema.ids)},
        **{name: numbers[:, place] for place, name in enumerate(schema.numbers)},
        **{
            column.name: _sums(values, offsets[looked], offsets[looked + 1])
            for column, (values, offsets) in zip(schema.lists, rows.lists, strict=True)
        },
    }
    return [name for name, values in columns.items() if _shared(values, *of_item) > _shared(values, *of_user)]


def _earlier(side: Int[np.ndarray, " rows"]) -> tuple[Int[np.ndarray, " some"], Int[np.ndarray, " some"]]:
    """Return all rows but each owner's last one, and for each of them that last one."""
    last = last_rows(side)[side]
    earlier = np.flatnonzero(last != np.arange(len(side)))
    return earlier, last[earlier]


def _shared(
    values: Shaped[np.ndarray, " rows"],
    earlier: Int[np.ndarray, " some"],
    last: Int[np.ndarray, " some"],
) -> float:
    """Return the share of the earlier rows that have the value of the last one."""
    return float((values[earlier] == values[last]).mean()) if len(earlier) else 0.0


def last_rows(numbers: Int[np.ndarray, " rows"]) -> Int[np.ndarray, " owners"]:
    """Return the last row of each user or item; -1 for one without any."""
    last = np.full(int(numbers.max(initial=-1)) + 1, -1, dtype=np.int64)
    last[numbers] = np.arange(len(numbers))
    return last


def _sums(
    values: Int[np.ndarray, " values"], begin: Int[np.ndarray, " rows"], end: Int[np.ndarray, " rows"]
) -> Float[np.ndarray, " rows"]:
    """Return a number for each row that is the same for lists of the same ids."""
    lengths = end - begin
    places = np.arange(int(lengths.sum())) + np.repeat(begin - (np.cumsum(lengths) - lengths), lengths)
    ids = values[places].astype(np.float64)
    row = np.repeat(np.arange(len(lengths)), lengths)
    sums: Float[np.ndarray, " rows"] = np.bincount(row, weights=ids * ids + ids, minlength=len(lengths))
    return sums
