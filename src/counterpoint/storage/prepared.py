"""The prepared stores of all workloads: found or made, opened, refused to a recipe that they do not fit."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import polars as pl
from jaxtyping import Shaped

from counterpoint.errors import CounterpointError, UsageError, nearest, on_one_line
from counterpoint.storage.files import cached_store, read_json

Opened = TypeVar("Opened")
Of = TypeVar("Of", covariant=True)


@dataclass(frozen=True)
class Prepared(Generic[Of]):
    """A store, and whether it was made just now or stood there already."""

    store: Of
    fresh: bool


def is_store(data: Path) -> bool:
    """Return whether ``data`` is a prepared store already."""
    return (data / "manifest.json").is_file()


def opened_or_made(
    data: Path,
    files: Sequence[Path],
    shaped_by: Any,
    out: Path | None,
    *,
    opened: Callable[[Path], Opened],
    made: Callable[[Path], Opened],
) -> Prepared[Opened]:
    """Return the store of raw files: made at ``out``, or without it kept in the cache from its first use on.

    Args:
        data: where the files are.
        files: all that preparation reads.
        shaped_by: what else decides how the store comes out, as JSON can hold it.
        out: where it is to be made, whatever is in the cache.
        opened: opens a store.
        made: prepares a new one.
    """
    place = out if out is not None else cached_store(data, files, shaped_by)
    fresh = out is not None or not place.exists()
    return Prepared(made(place) if fresh else opened(place), fresh)


def read_manifest(store: Path, workload: str, version: int) -> dict[str, Any]:
    """Return what preparation wrote about a store.

    Args:
        store: its folder.
        workload: for which it must have been made.
        version: that the program reads.

    Raises:
        CounterpointError: it is no store, one of another workload or of another version.
    """
    if not is_store(store):
        raise CounterpointError(f"{store}: not a prepared store; run counterpoint prepare first.")
    manifest: dict[str, Any] = read_json(store / "manifest.json")
    made_for = manifest.get("workload")
    if made_for != workload:
        raise CounterpointError(
            f"{store}: a prepared store of the workload {made_for!r}, the recipe is of {workload!r}; choose "
            "a recipe of the same workload or other data."
        )
    found = manifest.get("format")
    if found != version:
        raise CounterpointError(
            f"{store}: a store of version {found}, this program reads version {version}; prepare the data "
            "again."
        )
    return manifest


def read_table(
    store: Path, name: str, columns: Sequence[str], first: int = 0, length: int | None = None
) -> pl.DataFrame:
    """Return columns of a store's table, all rows or ``length`` from the ``first`` on.

    Raises:
        CounterpointError: the file is missing or broken.
    """
    file = store / f"{name}.parquet"
    try:
        return pl.scan_parquet(file, glob=False).select(columns).slice(first, length).collect()
    except (OSError, pl.exceptions.PolarsError) as error:
        raise CounterpointError(
            f"{file}: missing or cut short ({on_one_line(error)}); prepare the data again."
        ) from error


def map_array(store: Path, name: str) -> Shaped[np.ndarray, " *shape"]:
    """Return a store's array, mapped for reading.

    Raises:
        CounterpointError: the file is missing or broken.
    """
    try:
        array: Shaped[np.ndarray, " *shape"] = np.load(
            store / "arrays" / f"{name}.npy", mmap_mode="r", allow_pickle=False
        )
    except (OSError, ValueError) as error:
        raise CounterpointError(
            f"{store}: the array {name!r} is missing or cut short ({error}); prepare the data again."
        ) from error
    return array


def refuse_unknown_split(name: str, splits: Sequence[str]) -> None:
    """Raise a ``UsageError`` if there is no split of that name."""
    if name not in splits:
        raise UsageError(f"no split is called {name!r}{nearest(name, splits)}; known: {', '.join(splits)}.")


def refuse_missing_task(store: Path, task: str, prepared: Sequence[str], called: str = "") -> None:
    """Raise a ``CounterpointError`` if a recipe's task is not among those that a store was prepared with.

    Args:
        store: its folder.
        task: of the recipe.
        prepared: what the store has.
        called: what that is called before its names.
    """
    if task not in prepared:
        raise CounterpointError(
            f"{store}: prepared with {called}{', '.join(prepared)}, the recipe has the task {task!r}"
            f"{nearest(task, prepared)}; prepare the data again or leave it out of tasks."
        )


def refuse_other_settings(store: Path, made_with: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    """Raise a ``CounterpointError`` if a recipe asks for another setting than a store was made with.

    Args:
        store: its folder.
        made_with: the settings that preparation noted, by their keys in a recipe.
        asked: the recipe's; those that preparation did not note are not looked at.
    """
    for key, value in asked.items():
        if key in made_with and made_with[key] != value:
            raise CounterpointError(
                f"{store}: prepared with {key} = {made_with[key]}, the recipe has {value}; prepare the data "
                f"again or set {key}."
            )
