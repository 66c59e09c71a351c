"""Writing the rows of each split as arrays, part by part."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Bool, Int, Shaped

from counterpoint.feedback.data.checks import of_id, of_list, of_number, of_rule, of_truth
from counterpoint.feedback.data.fitted import Fitted, by_part, label_rows, rows_in
from counterpoint.feedback.data.log import Part
from counterpoint.feedback.data.plan import Plan
from counterpoint.feedback.data.splits import SPLITS, Split
from counterpoint.feedback.data.store import Rows
from counterpoint.progress import Progress


def write_rows(
    folder: Path,
    parts: Sequence[Part],
    split: Split,
    plan: Plan,
    fitted: Fitted,
    users: Int[np.ndarray, " rows"],
    items: Int[np.ndarray, " rows"],
    counts: Counter[str],
    progress: Progress,
) -> dict[str, Rows]:
    """Write the arrays of each split and return them, mapped.

    Ids that the vocabularies do not have, missing ids and missing numbers are counted.

    Args:
        folder: of the store.
        parts: of the log.
        split: of every row.
        plan: what the columns are.
        fitted: vocabularies, scales and quantiles.
        users: the number of each row's user.
        items: the number of each row's item.
        counts: added to.
        progress: told how many parts are written.
    """
    (folder / "arrays").mkdir()
    values = _values_of_lists(parts, split, plan, progress)
    writers = [
        _Writer(folder / "arrays", name, int((split == number).sum()), plan, values[number])
        for number, name in enumerate(SPLITS)
    ]
    columns = _columns(plan)
    start = 0
    for done, (part, own) in enumerate(by_part(parts, split), 1):
        block = part.read(columns)
        inside = slice(start, start + part.rows)
        for number, (name, writer) in enumerate(zip(SPLITS, writers, strict=True)):
            chosen = own == number
            if chosen.any():
                rows = block.filter(pl.Series(chosen, dtype=pl.Boolean))
                writer.add(rows, fitted, users[inside][chosen], items[inside][chosen])
                _count_unknown(rows, name, plan, fitted, counts)
        start += part.rows
        progress("writing the store", done, len(parts))
    return {name: writer.done() for name, writer in zip(SPLITS, writers, strict=True)}


class _Writer:
    """The arrays of one split, filled from above.

    Args:
        folder: of the arrays.
        split: its name.
        rows: how many it has.
        plan: what the columns are.
        values: ids in each list column.
    """

    def __init__(self, folder: Path, split: str, rows: int, plan: Plan, values: Sequence[int]) -> None:
        chosen = plan.chosen

        def array(name: str, kind: type, *shape: int) -> Shaped[np.ndarray, " *shape"]:
            return np.lib.format.open_memmap(
                folder / f"{split}_{name}.npy", mode="w+", dtype=kind, shape=shape
            )

        self._plan = plan
        self._filled, self._filled_values = 0, [0] * len(chosen.lists)
        self._ids = array("ids", np.int32, rows, len(chosen.ids))
        self._numbers = array("numbers", np.float32, rows, len(chosen.numbers))
        self._labels = array("labels", np.uint8, rows, len(plan.rules))
        self._users = array("users", np.int32, rows)
        self._items = array("items", np.int32, rows) if chosen.item is not None else None
        self._truth = array("truth", np.float32, rows, len(plan.rules)) if plan.truth else None
        self._lists = [
            (array(f"list{place}", np.int32, count), array(f"list{place}_offsets", np.int64, rows + 1))
            for place, count in enumerate(values)
        ]
        for _, offsets in self._lists:
            offsets[0] = 0

    def add(
        self,
        rows: pl.DataFrame,
        fitted: Fitted,
        users: Int[np.ndarray, " rows"],
        items: Int[np.ndarray, " rows"],
    ) -> None:
        """Write rows after those that are there."""
        place = slice(self._filled, self._filled + len(rows))
        chosen = self._plan.chosen
        for column, name in enumerate(chosen.ids):
            self._ids[place, column] = rows_in(rows[of_id(name)], fitted.vocabularies[name])
        for column, name in enumerate(chosen.numbers):
            self._numbers[place, column] = fitted.scales[name].of(rows[of_number(name)])
        self._labels[place] = label_rows(rows, self._plan, fitted.quantiles)
        self._users[place] = users
        if self._items is not None:
            self._items[place] = items
        if self._truth is not None:
            names = [of_truth(label) for label in self._plan.labels]
            self._truth[place] = rows.select(names).to_numpy()
        for column, name in enumerate(chosen.lists):
            values, offsets = self._lists[column]
            lists = rows[of_list(name)]
            first = self._filled_values[column]
            ends = first + np.cumsum(lists.list.len().to_numpy(), dtype=np.int64)
            offsets[place.start + 1 : place.stop + 1] = ends
            flat = lists.explode(empty_as_null=False)
            values[first : ends[-1]] = rows_in(flat, fitted.vocabularies[name])
            self._filled_values[column] = int(ends[-1])
        self._filled += len(rows)

    def done(self) -> Rows:
        """Return what was written."""
        return Rows(
            self._ids,
            self._numbers,
            tuple(self._lists),
            self._labels,
            self._users,
            self._items,
            self._truth,
        )


def _columns(plan: Plan) -> list[str]:
    chosen = plan.chosen
    return [
        *map(of_id, chosen.ids),
        *map(of_number, chosen.numbers),
        *map(of_list, chosen.lists),
        *dict.fromkeys(of_rule(name) for rule in plan.rules for name in rule.columns),
        *map(of_truth, plan.truth),
    ]


def _values_of_lists(parts: Sequence[Part], split: Split, plan: Plan, progress: Progress) -> list[list[int]]:
    """Return how many ids each list column has in each split."""
    names = [of_list(name) for name in plan.chosen.lists]
    totals = [[0] * len(names) for _ in SPLITS]
    if not names:
        return totals
    for done, (part, own) in enumerate(by_part(parts, split), 1):
        block = part.read(names)
        for column, name in enumerate(names):
            lengths = block[name].list.len().to_numpy()
            for number, total in enumerate(totals):
                inside: Bool[np.ndarray, " rows"] = own == number
                total[column] += int(lengths[inside].sum())
        progress("measuring lists", done, len(parts))
    return totals


def _count_unknown(rows: pl.DataFrame, split: str, plan: Plan, fitted: Fitted, counts: Counter[str]) -> None:
    """Count what has no row of its own in a vocabulary, and what is missing."""
    found = {}
    for name in plan.chosen.ids:
        ids = rows[of_id(name)]
        found[f"{split} rows without {name}"] = ids.null_count()
        known = ids.is_in(fitted.vocabularies[name].implode())
        found[f"{split} rows with an unknown {name}"] = int((~known).sum())
    for name in plan.chosen.numbers:
        found[f"{split} rows without {name}"] = rows[of_number(name)].null_count()
    counts.update({told: number for told, number in found.items() if number})
