"""Which columns belong to the item: they are the same whoever views it, as its author is."""

import numpy as np
from jaxtyping import Int, Shaped

from counterpoint.feedback.data.store import Rows
from counterpoint.feedback.schema import Schema


def columns_of_items(rows: Rows, schema: Schema) -> list[str]:
    """Return the columns that rows share with their item's last row more often than with their user's.

    Who recommends an item takes these columns from the item and all others from the user.

    Args:
        rows: of training.
        schema: their columns.
    """
    if rows.items is None:
        return []
    of_item, of_user = (_earlier(side) for side in (rows.items, rows.users))
    columns: dict[str, Shaped[np.ndarray, " rows"]] = {
        **{column.name: rows.ids[:, place] for place, column in enumerate(schema.ids)},
        **{name: rows.numbers[:, place] for place, name in enumerate(schema.numbers)},
        **{column.name: _sums(*rows.lists[place]) for place, column in enumerate(schema.lists)},
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
    values: Int[np.ndarray, " values"], offsets: Int[np.ndarray, " rows+1"]
) -> Int[np.ndarray, " rows"]:
    """Return a number that is the same for lists of the same ids."""
    ids = values.astype(np.int64)
    totals = np.concatenate(([0], np.cumsum(ids * ids + ids)))
    found: Int[np.ndarray, " rows"] = totals[offsets[1:]] - totals[offsets[:-1]]
    return found
