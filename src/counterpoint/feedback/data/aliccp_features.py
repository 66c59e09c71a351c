"""Ali-CCP's features as its files write them: field, id and weight, any number of them in a row.

The 23 fields are those of Ma et al. 2018 (ESMM). Most have one id in a row; the user's behaviours, the item's
intentions and the combinations of both have any number and are list columns. Weights are not read.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from counterpoint.feedback.data.formats import Chosen
from counterpoint.storage.rows import BadRows, Check, drop_bad

LABELS = ("click", "purchase")
LISTS = ("109_14", "110_14", "127_14", "150_14", "210", "853")
SINGLE = (
    *("101", "121", "122", "124", "125", "126", "127", "128", "129"),  # the user
    *("205", "206", "207", "216"),  # the item
    *("508", "509", "702"),  # both
    "301",  # the scene
)
HEADER = (*LABELS, *SINGLE, *LISTS)


def columns(names: Sequence[str]) -> Chosen:
    """Return the fields in their roles: 101 is the user, 205 the item."""
    return Chosen(user="101", item="205", ids=SINGLE, lists=LISTS)


def labels(names: Sequence[str]) -> Mapping[str, str]:
    """Return the label rules."""
    return {label: f"{label} == 1" for label in LABELS}


@dataclass(frozen=True)
class Separators:
    """What stands between features, between a feature's field and its id, and before its weight, if any."""

    features: str
    ids: str
    weights: str | None = None


def parsed(texts: pl.Series, separators: Separators, fields: Sequence[str]) -> pl.DataFrame:
    """Return the features of rows: ``count``, ``fault`` (null, or what is wrong) and the ids of some fields.

    Args:
        texts: the features of each row.
        separators: what stands between them.
        fields: whose ids are returned, each a column of lists, null for a row without any.
    """
    rows = pl.DataFrame({"_row": pl.int_range(len(texts), eager=True)})
    features = (
        rows.with_columns(texts.str.split(separators.features).alias("feature"))
        .explode("feature")
        .filter(pl.col("feature") != "")
        .with_columns(_halves("feature", separators.ids, "field", "id").alias("_"))
        .unnest("_")
    )
    fault = (
        pl.when(~pl.col("field").is_in(HEADER[len(LABELS) :]))
        .then(_said("feature", "is of none of Ali-CCP's fields"))
        .when(pl.col("id").is_null() | (pl.col("id") == ""))
        .then(_said("feature", "has no id"))
    )
    if separators.weights is not None:
        features = features.with_columns(_halves("id", separators.weights, "id", "weight").alias("_"))
        features = features.drop("id").unnest("_")
        weight = pl.col("weight").cast(pl.Float64, strict=False)
        fault = fault.when(~weight.is_finite().fill_null(False)).then(
            _said("feature", "has no finite weight")
        )
    features = features.with_columns(fault.alias("fault"))
    found = rows.join(
        features.group_by("_row").agg(
            pl.len().cast(pl.Int64).alias("count"), pl.col("fault").drop_nulls().first()
        ),
        on="_row",
        how="left",
        maintain_order="left",
    )
    for field in fields:
        ids = features.filter(pl.col("field") == field).group_by("_row").agg(pl.col("id").alias(field))
        found = found.join(ids, on="_row", how="left", maintain_order="left")
    return found.drop("_row").with_columns(pl.col("count").fill_null(0))


def fault_check() -> Check:
    """Refuse rows of which `parsed` told a fault."""
    return Check("features", pl.col("fault").is_not_null(), pl.col("fault"), "correct it or remove the row")


def sound(
    block: pl.DataFrame, wanted: Sequence[str], lists: Sequence[str], bad: BadRows, file: Path
) -> pl.DataFrame:
    """Return the wanted columns of rows whose labels are 0 or 1, none bought without a click, and sound.

    A field that is no list column and stands twice in a row is a fault too.

    Args:
        block: ``line``, ``row``, the labels as text and the fields as lists.
        wanted: the columns to return.
        lists: those of them that stay lists.
        bad: what to do with malformed rows.
        file: where the rows come from.
    """
    single = [name for name in wanted if name not in (*lists, *LABELS)]
    checks = [
        Check(
            label,
            ~pl.col(label).is_in(["0", "1"]),
            pl.format("'{}' is neither 0 nor 1", pl.col(label).str.slice(0, 40)),
            "write one of the two",
        )
        for label in LABELS
    ]
    checks.append(
        Check(
            "purchase",
            (pl.col("purchase") == "1") & (pl.col("click") == "0"),
            pl.lit("a purchase without a click"),
            "correct it or remove the row",
        )
    )
    checks += [
        Check(
            name,
            (pl.col(name).list.len() > 1).fill_null(False),
            pl.format("{} ids in one row", pl.col(name).list.len()),
            "keep one, or name the field in columns.lists and nowhere else",
        )
        for name in single
    ]
    rows = drop_bad(block, checks, bad, file)
    return rows.with_columns(pl.col(name).list.first() for name in single).select("line", "row", *wanted)


def _halves(column: str, separator: str, first: str, second: str) -> pl.Expr:
    return pl.col(column).str.splitn(separator, 2).struct.rename_fields([first, second])


def _said(column: str, what: str) -> pl.Expr:
    """Return that a feature is ``what``, with spaces for the characters that cannot be seen."""
    shown = pl.col(column).str.slice(0, 40).str.replace_all(r"[\x00-\x1f]", " ")
    return pl.format("'{}' {}", shown, pl.lit(what))
