"""From article ids to rows and keys, a column at a time."""

import numpy as np
import polars as pl
from jaxtyping import Int, UInt64

from counterpoint.news.data.store import UNKNOWN
from counterpoint.storage.keys import keys


class ArticleLookup:
    """The row and the key of every article id.

    Args:
        ids: the row of each article id.
    """

    def __init__(self, ids: dict[str, int]) -> None:
        self._table = pl.DataFrame(
            {"id": list(ids), "row": list(ids.values()), "key": keys(ids)},
            schema={"id": pl.String, "row": pl.Int32, "key": pl.UInt64},
        )

    def rows(self, ids: pl.Series) -> pl.Series:
        """Return the row of each id, null where there is no such article."""
        return self._joined(ids)["row"]

    def rows_and_keys(
        self, ids: pl.Series
    ) -> tuple[Int[np.ndarray, " articles"], UInt64[np.ndarray, " articles"]]:
        """Return the row of each id, `UNKNOWN` where there is no such article, and its key all the same."""
        found = self._joined(ids)
        missing = found.filter(pl.col("row").is_null()).select(pl.col("id").unique())
        if len(missing):
            named = missing.with_columns(other=pl.Series(keys(missing["id"]), dtype=pl.UInt64))
            found = found.join(named, on="id", how="left", maintain_order="left")
            found = found.with_columns(pl.coalesce("key", "other"))
        return found["row"].fill_null(UNKNOWN).to_numpy(), found["key"].to_numpy()

    def _joined(self, ids: pl.Series) -> pl.DataFrame:
        table = pl.DataFrame({"id": ids}, schema={"id": pl.String})
        return table.join(self._table, on="id", how="left", maintain_order="left")
