"""From a raw log to a prepared store: streamed, checked, filtered, split, numbered, written in one move."""

import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Int

from counterpoint.errors import CounterpointError
from counterpoint.feedback.data import splits
from counterpoint.feedback.data.checks import ITEM, TIME, USER
from counterpoint.feedback.data.fingerprints import fingerprint
from counterpoint.feedback.data.fitted import Fitted, fit
from counterpoint.feedback.data.layout import Source
from counterpoint.feedback.data.log import Part, read_log
from counterpoint.feedback.data.owners import columns_of_items
from counterpoint.feedback.data.plan import Plan, plan
from counterpoint.feedback.data.schema import Column, Schema
from counterpoint.feedback.data.splits import DROPPED, SPLITS, TRAIN, Split
from counterpoint.feedback.data.store import FITTED, FORMAT, Rows, Store
from counterpoint.feedback.data.writing import write_rows
from counterpoint.feedback.recipe import Data, FeedbackRecipe
from counterpoint.progress import Progress
from counterpoint.storage.files import new_store, read_json, write_json
from counterpoint.storage.keys import keys
from counterpoint.storage.rows import BadRows
from counterpoint.workload import Preparation


def prepare(
    source: Source,
    out: Path,
    recipe: FeedbackRecipe,
    preparation: Preparation,
    fitted: Fitted | None = None,
) -> Store:
    """Read a raw log into a store at ``out``; an older store there is replaced only by a whole new one.

    Rows are read once into parts on disk; then each pass has one part, or one column of numbers, in memory,
    beside a few bytes for each row that say where it belongs.

    Args:
        source: the raw files.
        out: the store's folder.
        recipe: whose columns, label rules and data settings shape the store.
        preparation: malformed rows stop it or are set aside in ``bad_rows.jsonl``; it is told its progress.
        fitted: vocabularies, scales and quantiles of a trained model; by default those of the training rows.

    Raises:
        UsageError: ``out`` holds something that is not a store, or a column is missing.
        BadRowError: a malformed row.
        CounterpointError: nothing is left to train on, to validate or to test, or the disk is full.
    """
    progress = preparation.progress
    columns = plan(source, recipe)
    counts: Counter[str] = Counter()
    with new_store(out) as folder:
        blocks = folder / "blocks"
        blocks.mkdir()
        bad = BadRows(preparation.on_bad_row, folder / "bad_rows.jsonl")
        parts = read_log(source, columns, blocks, bad, counts, progress)
        users = _numbered(parts, USER, columns.chosen.user, progress)
        items = _numbered(parts, ITEM, columns.chosen.item, progress)
        split = _split(source, parts, users, items, columns, recipe.data)
        _count(split, users, items, counts)
        _refuse_empty(source, counts)
        fitted = fitted or fit(parts, split, columns, recipe.data.min_count, progress)
        written = write_rows(folder, parts, split, columns, fitted, users.rows, items.rows, counts, progress)
        shutil.rmtree(blocks)
        fitted.save(folder / FITTED)
        users.ids.to_frame().write_parquet(folder / "users.parquet")
        items.ids.to_frame().write_parquet(folder / "items.parquet")
        counts["bad rows set aside"] = bad.count
        manifest = _manifest(source, columns, recipe, fitted, users, items, written, counts)
        write_json(folder / "manifest.json", manifest)
    return Store(out)


@dataclass(frozen=True)
class _Numbered:
    """Users, or items, as numbers.

    Attributes:
        ids: by number, in the order of their texts; row numbers where there are none.
        rows: the number of each row's.
        known: whether the log has them.
    """

    ids: pl.Series
    rows: Int[np.ndarray, " rows"]
    known: bool


def _numbered(parts: Sequence[Part], role: str, column: str | None, progress: Progress) -> _Numbered:
    """Number the values of a column over all parts."""
    rows = sum(part.rows for part in parts)
    if column is None:
        return _Numbered(pl.Series(role, [], pl.String), np.arange(rows, dtype=np.int32), False)
    ids = pl.concat([part.read([role])[role].unique() for part in parts]).unique().sort()
    numbers = pl.int_range(len(ids), dtype=pl.Int32, eager=True)
    found = []
    for done, part in enumerate(parts, 1):
        found.append(part.read([role])[role].replace_strict(ids, numbers).to_numpy())
        progress(f"numbering {role}s", done, len(parts))
    return _Numbered(ids, np.concatenate(found), True)


def _split(
    source: Source,
    parts: Sequence[Part],
    users: _Numbered,
    items: _Numbered,
    columns: Plan,
    settings: Data,
) -> Split:
    """Return the split of every row, or that it is dropped."""
    if source.test:
        given: Split = np.concatenate(
            [np.full(part.rows, SPLITS.index(part.split or "train"), dtype=np.int8) for part in parts]
        )
        return given if source.validation else splits.with_validation(given, settings)
    sides = [side.rows for side in (users, items) if side.known]
    stays = splits.core(sides, settings.core, source.log[0]) if sides else np.ones(len(users.rows), bool)
    split = np.full(len(users.rows), DROPPED, dtype=np.int8)
    match settings.split:
        case "rows":
            split[stays] = splits.at_random(int(stays.sum()), settings)
        case "users":
            if not users.known:
                raise CounterpointError(
                    f"{source.log[0]}: the log has no users, by whom data.split='users' divides; name their "
                    "column by columns.user or set data.split to 'rows'."
                )
            split[stays] = splits.by_user(users.rows[stays], settings)
        case "time":
            if columns.chosen.time is None:
                raise CounterpointError(
                    f"{source.log[0]}: the log has no times, which data.split = 'time' needs; name their "
                    "column by columns.time or set data.split to 'rows'."
                )
            times = np.concatenate([part.read([TIME])[TIME].to_numpy() for part in parts])
            split[stays] = splits.by_time(times[stays], settings)
    return split


def _count(split: Split, users: _Numbered, items: _Numbered, counts: Counter[str]) -> None:
    """Count rows, users and items, and what the filter dropped."""
    kept = split != DROPPED
    counts["rows dropped by the core filter"] = int((~kept).sum())
    for name, side in (("users", users), ("items", items)):
        if side.known:
            counts[name] = len(np.unique(side.rows[kept]))
            counts[f"{name} dropped by the core filter"] = len(side.ids) - counts[name]
    for number, name in enumerate(SPLITS):
        counts[f"{name} rows"] = int((split == number).sum())
    trained = split == TRAIN
    for name, side in (("users", users), ("items", items)):
        for number, held_out in enumerate(SPLITS[1:], 1):
            if side.known:
                met = np.isin(side.rows[split == number], side.rows[trained])
                counts[f"{held_out} rows of {name} that do not train"] = int((~met).sum())


def _refuse_empty(source: Source, counts: Counter[str]) -> None:
    for name in SPLITS:
        if not counts[f"{name} rows"]:
            raise CounterpointError(
                f"{source.log[0]}: no row is left for the {name} split; bring more, lower data.core or set "
                "the shares anew."
            )


def _manifest(
    source: Source,
    columns: Plan,
    recipe: FeedbackRecipe,
    fitted: Fitted,
    users: _Numbered,
    items: _Numbered,
    written: Mapping[str, Rows],
    counts: Counter[str],
) -> dict[str, Any]:
    told, shaped_by = splits.rule(recipe.data, bool(source.test), bool(source.validation))
    chosen = columns.chosen
    sizes = {name: len(ids) + 1 for name, ids in fitted.vocabularies.items()}
    schema = Schema(
        ids=tuple(Column(name, sizes[name]) for name in chosen.ids),
        numbers=chosen.numbers,
        lists=tuple(Column(name, sizes[name]) for name in chosen.lists),
        labels=columns.labels,
    )
    user_keys, item_keys = (keys(side.ids.to_list()) if side.known else None for side in (users, items))
    described = source.log[0].parent / "simulation.json"
    return {
        "workload": "feedback",
        "format": FORMAT,
        "source": {"format": source.format.name, "files": [str(file) for file in source.files]},
        "schema": schema.as_dict(),
        "columns": asdict(chosen),
        "columns of the item": columns_of_items(written["train"], schema),
        "labels": {rule.label: rule.text for rule in columns.rules},
        "quantiles": fitted.quantiles,
        "fitted": fitted.digest,
        "settings": {name: getattr(recipe.data, name) for name in (*shaped_by, "min_count")},
        "splits": {name: len(rows) for name, rows in written.items()},
        "split rule": told,
        "positives": {
            name: dict(zip(columns.labels, rows.labels.sum(axis=0, dtype=np.int64).tolist(), strict=True))
            for name, rows in written.items()
        },
        "fingerprints": {
            name: fingerprint(rows, user_keys, item_keys, columns.labels) for name, rows in written.items()
        },
        "truth": bool(columns.truth),
        "simulated": described.is_file() and bool(read_json(described).get("simulated")),
        "counts": dict(sorted(counts.items())),
    }
