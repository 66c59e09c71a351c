"""What is fitted on the training rows: vocabularies, the scale of numbers, quantiles of label rules."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Self

import numpy as np
import polars as pl
from jaxtyping import Float, Int

from counterpoint.feedback.data.checks import of_id, of_list, of_number, of_rule
from counterpoint.feedback.data.log import Part
from counterpoint.feedback.data.plan import Plan
from counterpoint.feedback.data.rules import Rule
from counterpoint.feedback.data.splits import TRAIN, Split
from counterpoint.progress import Progress, silent
from counterpoint.storage.files import read_json, write_json
from counterpoint.storage.prepared import read_table

_ROUNDING = 1e-12


@dataclass(frozen=True)
class Scale:
    """How a column of numbers is standardised: (x - mean) / spread, and a missing one is the mean.

    Attributes:
        mean: of the training rows.
        spread: their standard deviation; 1 where they do not differ.
    """

    mean: float
    spread: float

    def of(self, numbers: pl.Series) -> Float[np.ndarray, " rows"]:
        """Return numbers on this scale, 0 for a missing one."""
        scaled: Float[np.ndarray, " rows"] = (
            ((numbers - self.mean) / self.spread).fill_null(0.0).to_numpy().astype(np.float32)
        )
        return scaled


@dataclass(frozen=True)
class Fitted:
    """What training rows told.

    Attributes:
        vocabularies: by column of ids or of lists, its ids; the first has row 1, row 0 is for unknown ones.
        scales: by column of numbers.
        quantiles: by their texts in the label rules.
    """

    vocabularies: dict[str, pl.Series]
    scales: dict[str, Scale]
    quantiles: dict[str, float]

    @property
    def digest(self) -> str:
        """What tells this from anything else that was fitted, in 16 hex digits."""
        told = {
            "vocabularies": {name: ids.to_list() for name, ids in self.vocabularies.items()},
            "scales": {name: asdict(scale) for name, scale in self.scales.items()},
            "quantiles": self.quantiles,
        }
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]

    def save(self, folder: Path) -> None:
        """Write it into a new folder: ``fitted.json``, and each vocabulary as Parquet."""
        folder.mkdir()
        for number, ids in enumerate(self.vocabularies.values()):
            ids.to_frame().write_parquet(folder / f"{number}.parquet")
        write_json(
            folder / "fitted.json",
            {
                "vocabularies": list(self.vocabularies),
                "scales": {name: asdict(scale) for name, scale in self.scales.items()},
                "quantiles": self.quantiles,
                "digest": self.digest,
            },
        )

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            CounterpointError: the folder is incomplete.
        """
        told = read_json(folder / "fitted.json")
        return cls(
            {
                name: read_table(folder, str(number), ["id"])["id"]
                for number, name in enumerate(told["vocabularies"])
            },
            {name: Scale(**scale) for name, scale in told["scales"].items()},
            told["quantiles"],
        )


def fit(
    parts: Sequence[Part], split: Split, plan: Plan, min_count: int, progress: Progress = silent
) -> Fitted:
    """Look at the training rows, part by part; one column is in memory at a time.

    Args:
        parts: of the log.
        split: of every row of it.
        plan: what its columns are.
        min_count: rows of an id that gets a row of its own.
        progress: told how many columns and quantiles are behind us.
    """
    chosen = plan.chosen
    of_rules = {each.text: (rule, each) for rule in plan.rules for each in rule.quantiles}
    done, total = count(), len(chosen.ids) + len(chosen.lists) + len(chosen.numbers) + len(of_rules)

    def values(column: str) -> Iterator[pl.Series]:
        progress("fitting columns", next(done), total)
        return (block[column] for block in training(parts, split, [column]))

    vocabularies = {name: _vocabulary(values(of_id(name)), min_count) for name in chosen.ids}
    for name in chosen.lists:
        vocabularies[name] = _vocabulary(values(of_list(name)), min_count)
    scales = {name: _scale(values(of_number(name))) for name in chosen.numbers}
    quantiles = {}
    for text, (rule, each) in of_rules.items():
        progress("fitting columns", next(done), total)
        quantiles[text] = _quantile(parts, split, rule, each.of, each.share)
    progress("fitting columns", total, total)
    return Fitted(vocabularies, scales, quantiles)


def training(parts: Sequence[Part], split: Split, columns: Sequence[str]) -> Iterator[pl.DataFrame]:
    """Yield the training rows of each part."""
    for part, own in by_part(parts, split):
        yield part.read(columns).filter(pl.Series(own == TRAIN, dtype=pl.Boolean))


def by_part(parts: Sequence[Part], values: Split) -> Iterator[tuple[Part, Split]]:
    """Yield each part with the values of its rows."""
    start = 0
    for part in parts:
        yield part, values[start : start + part.rows]
        start += part.rows


def label_rows(
    block: pl.DataFrame, plan: Plan, quantiles: dict[str, float]
) -> Int[np.ndarray, "rows labels"]:
    """Return the labels of a part's rows, 1 or 0."""
    renamed = _for_rules(block, plan.rules)
    columns = [rule.expression(quantiles).cast(pl.UInt8).alias(rule.label) for rule in plan.rules]
    labels: Int[np.ndarray, "rows labels"] = renamed.select(columns).to_numpy()
    return labels


def rows_in(values: pl.Series, vocabulary: pl.Series) -> Int[np.ndarray, " values"]:
    """Return the rows of ids in a vocabulary: 0 for those that it does not have."""
    if not len(vocabulary):
        return np.zeros(len(values), dtype=np.int32)
    rows = pl.int_range(1, len(vocabulary) + 1, dtype=pl.Int32, eager=True)
    found: Int[np.ndarray, " values"] = values.replace_strict(
        vocabulary, rows, default=0, return_dtype=pl.Int32
    ).to_numpy()
    return found


def _for_rules(block: pl.DataFrame, rules: Sequence[Rule]) -> pl.DataFrame:
    """Return the columns that rules take, by the names that they call them."""
    names = dict.fromkeys(name for rule in rules for name in rule.columns)
    return block.select(pl.col(of_rule(name)).alias(name) for name in names)


def _vocabulary(blocks: Iterator[pl.Series], min_count: int) -> pl.Series:
    """Return the ids with enough rows, in the order of their texts."""
    counts: Counter[str] = Counter()
    for block in blocks:
        flat = block.explode() if block.dtype == pl.List else block
        found = flat.drop_nulls().alias("id").value_counts(name="rows")
        counts.update(dict(zip(found["id"].to_list(), found["rows"].to_list(), strict=True)))
    return pl.Series("id", sorted(name for name, rows in counts.items() if rows >= min_count), pl.String)


def _scale(blocks: Iterator[pl.Series]) -> Scale:
    """Return mean and standard deviation, block by block (Chan et al. 1979)."""
    count, mean, squares = 0, 0.0, 0.0
    for block in blocks:
        numbers = block.drop_nulls().to_numpy()
        if not len(numbers):
            continue
        own = float(numbers.mean())
        squares += float(np.square(numbers - own).sum()) + (own - mean) ** 2 * count * len(numbers) / (
            count + len(numbers)
        )
        mean += (own - mean) * len(numbers) / (count + len(numbers))
        count += len(numbers)
    spread = float(np.sqrt(squares / count)) if count else 0.0
    # Equal numbers differ from their mean by roundings, which are no spread; nor is the last digit, which
    # depends on the blocks, worth telling apart.
    return Scale(_rounded(mean), _rounded(spread) if spread > _ROUNDING * abs(mean) else 1.0)


def _rounded(number: float) -> float:
    return float(f"{number:.12g}")


def _quantile(parts: Sequence[Part], split: Split, rule: Rule, of: pl.Expr, share: float) -> float:
    """Return a quantile over the training rows, between two of them where it falls there."""
    columns = [of_rule(name) for name in rule.columns]
    values = [
        _for_rules(block, [rule]).select(of.cast(pl.Float64).alias("value"))["value"].to_numpy()
        for block in training(parts, split, columns)
    ]
    return float(np.quantile(np.concatenate(values), share))
