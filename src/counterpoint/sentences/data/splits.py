"""Which rows train, which validate, which test, and which have no answers yet."""

from collections.abc import Mapping

import numpy as np
import polars as pl
from jaxtyping import Bool

from counterpoint.sentences.recipe import Data
from counterpoint.storage.keys import key

SPLITS = ("train", "validation", "test", "unlabelled")


def divided(name: str, read: Mapping[str, pl.DataFrame], settings: Data) -> dict[str, pl.DataFrame]:
    """Return the rows of a task by split; labels are NaN where there are none.

    Args:
        name: the task's: it draws its validation by itself, whatever others there are.
        read: the rows of its files: ``train``, ``test`` and ``unlabelled``.
        settings: what share of the training rows validates.
    """
    validates = pl.Series(_held_out(len(read["train"]), name, settings))
    return {
        "train": read["train"].filter(~validates),
        "validation": read["train"].filter(validates),
        "test": read["test"],
        "unlabelled": read["unlabelled"].with_columns(pl.lit(np.nan).alias("label")),
    }


def told(settings: Data) -> str:
    """Return how rows are divided, in words."""
    share = f"{settings.validation_share:.0%}"
    return f"a random {share} of each task's training rows validates, the test files test"


def _held_out(rows: int, name: str, settings: Data) -> Bool[np.ndarray, " rows"]:
    """Draw the rows that validate: one at least, and never all."""
    draw = np.random.default_rng((settings.split_seed, key(name)))
    held_out = np.zeros(rows, dtype=bool)
    most = max(0, rows - 1)
    held_out[draw.permutation(rows)[: min(max(1, round(settings.validation_share * rows)), most)]] = True
    return held_out
