"""Which impressions train, validate and test: by the folders' roles and by time."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Int, UInt8

from counterpoint.news.data.layout import Source
from counterpoint.news.data.store import SPLITS
from counterpoint.news.recipe import Data
from counterpoint.storage.arrays import GrowingArray

_HOUR = 3_600_000_000
_DAY = 24 * _HOUR
_BLOCK = 1 << 20
_TRAIN, _VALIDATION, _TEST, _UNLABELLED = range(4)


@dataclass(frozen=True)
class Splits:
    """The outcome.

    Attributes:
        names: the split's name, from the columns ``part`` and ``time``.
        sizes: impressions in each split.
        rule: how the split was made, for people.
    """

    names: pl.Expr
    sizes: dict[str, int]
    rule: str


def assign_splits(arrays: Path, source: Source, shape: Data) -> Splits:
    """Write ``split.npy`` beside the arrays of impressions.

    Training impressions of the last ``validation_days`` days validate. A ``dev`` folder is the test split,
    unless a labelled ``test`` folder is there too: then it validates. A ``test`` folder without labels is
    split ``unlabelled``. A single folder gives its last ``test_days`` days to the test split. Where there are
    too few days, the same is done by impressions: the last tenth tests, the tenth before it validates.

    Args:
        arrays: folder with ``part.npy``, ``time.npy``, ``clicked.npy`` and ``candidate_offsets.npy``.
        source: the raw files.
        shape: how many days validate and test.
    """
    roles = [part.role for part in source.parts]
    part, time, clicked, offsets = (
        np.load(arrays / f"{name}.npy", mmap_mode="r")
        for name in ("part", "time", "clicked", "candidate_offsets")
    )
    unlabelled = _unlabelled_parts(part, clicked[offsets[:-1]] < 0 if len(part) else part, len(roles))
    tested = any(role == "test" and not unlabelled[number] for number, role in enumerate(roles))
    fixed = {
        number: _UNLABELLED
        if unlabelled[number]
        else {"dev": _VALIDATION if tested else _TEST, "test": _TEST}[role]
        for number, role in enumerate(roles)
        if role in ("dev", "test")
    }
    validated = _VALIDATION in fixed.values()
    alone = "all" in roles
    by_time = np.isin(part, [number for number, role in enumerate(roles) if role in ("train", "all")])
    boundary, rule = _boundaries(
        np.asarray(time)[by_time],
        0 if validated else shape.validation_days,
        shape.test_days if alone else 0,
        source.format.day_begins,
    )
    timed = pl.when(pl.col("time").dt.epoch("us") >= boundary[1]).then(pl.lit(SPLITS[_TEST]))
    names = timed.when(pl.col("time").dt.epoch("us") >= boundary[0]).then(pl.lit(SPLITS[_VALIDATION]))
    expression = names.otherwise(pl.lit(SPLITS[_TRAIN]))
    for number, split in fixed.items():
        expression = pl.when(pl.col("part") == number).then(pl.lit(SPLITS[split])).otherwise(expression)
    sizes = _write(arrays, part, time, fixed, boundary)
    (arrays / "part.npy").unlink()
    folders = "; ".join(f"{source.parts[number].place}: {SPLITS[split]}" for number, split in fixed.items())
    return Splits(expression, sizes, "; ".join(filter(None, (rule, folders))))


def _unlabelled_parts(
    part: UInt8[np.ndarray, " impressions"], untold: UInt8[np.ndarray, " impressions"], parts: int
) -> list[bool]:
    """Return for each part whether its clicks are not told."""
    return [
        bool(untold[np.argmax(part == number)]) if (part == number).any() else False
        for number in range(parts)
    ]


def _boundaries(
    time: Int[np.ndarray, " impressions"], validation_days: int, test_days: int, day_begins: int
) -> tuple[tuple[int, int], str]:
    """Return from when on impressions validate and from when on they test, and the rule in words."""
    never = np.iinfo(np.int64).max
    begin = day_begins * _HOUR
    days = np.unique((time - begin) // _DAY)
    wanted = validation_days + test_days
    if wanted == 0 or not len(days):
        return (never, never), ""
    if len(days) > wanted:
        test = int(days[-test_days]) * _DAY + begin if test_days else never
        validation = int(days[-wanted]) * _DAY + begin if validation_days else test
        since = f", days from {day_begins:02}:00" if day_begins else ""
        if test_days:
            tests = f"last {test_days} day(s): test, the {validation_days} before: validation"
        else:
            tests = f"last {validation_days} training day(s): validation"
        return (validation, test), tests + since
    in_order = np.sort(time)
    cut = [int(in_order[min(int(len(time) * share), len(time) - 1)]) for share in (0.8, 0.9)]
    if not test_days:
        return (cut[1], never), f"only {len(days)} day(s): last tenth by time validates"
    return (cut[0], cut[1]), f"only {len(days)} day(s): last tenth by time tests, the tenth before validates"


def _write(
    arrays: Path,
    part: UInt8[np.ndarray, " impressions"],
    time: Int[np.ndarray, " impressions"],
    fixed: dict[int, int],
    boundary: tuple[int, int],
) -> dict[str, int]:
    """Write the split of every impression, block by block; return the sizes."""
    sizes = np.zeros(len(SPLITS), dtype=np.int64)
    array = GrowingArray(arrays / "split.npy", np.uint8)
    for start in range(0, len(part), _BLOCK):
        parts, times = part[start : start + _BLOCK], time[start : start + _BLOCK]
        split = np.where(times >= boundary[1], _TEST, np.where(times >= boundary[0], _VALIDATION, _TRAIN))
        for number, forced in fixed.items():
            split[parts == number] = forced
        array.append(split)
        sizes += np.bincount(split, minlength=len(SPLITS))
    array.close()
    return {name: int(size) for name, size in zip(SPLITS, sizes, strict=True)}
