"""Opening a prepared store of any workload: its manifest, its tables, and its arrays, which are mapped."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Shaped

from counterpoint.errors import CounterpointError, on_one_line
from counterpoint.files import read_json


def read_manifest(store: Path, workload: str, version: int) -> dict[str, Any]:
    """Return what preparation wrote about a store.

    Args:
        store: its folder.
        workload: for which it must have been made.
        version: that the program reads.

    Raises:
        CounterpointError: it is no store, one of another workload or of another version.
    """
    if not (store / "manifest.json").is_file():
        raise CounterpointError(f"{store}: not a prepared store; run counterpoint prepare first.")
    manifest: dict[str, Any] = read_json(store / "manifest.json")
    # The first stores were all of news, and did not say so.
    made_for = manifest.get("workload", "news")
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
