"""From a raw log to a prepared store: streamed, checked, filtered, split, written in one move."""

import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from counterpoint.behaviors.data.fingerprints import fingerprint, id_keys
from counterpoint.behaviors.data.formats import OUTSIDE, others_than
from counterpoint.behaviors.data.layout import Source
from counterpoint.behaviors.data.log import Log, read_log
from counterpoint.behaviors.data.pairs import UNTRAINED, Keys, Pairs, distinct_pairs, held_out_keys
from counterpoint.behaviors.data.splits import Cut, as_given, at_random, by_time, minus
from counterpoint.behaviors.data.store import FORMAT, Interactions, Store, array_stem
from counterpoint.behaviors.data.truth import copy_truth
from counterpoint.behaviors.recipe import BehaviorsRecipe, Data
from counterpoint.errors import CounterpointError
from counterpoint.progress import Progress
from counterpoint.storage.files import new_store, write_json
from counterpoint.storage.rows import BadRows
from counterpoint.workload import Preparation


def prepare(source: Source, out: Path, recipe: BehaviorsRecipe, preparation: Preparation) -> Store:
    """Read a raw log into a store at ``out``; an older store there is replaced only by a whole new one.

    Args:
        source: the raw files.
        out: the store's folder.
        recipe: whose tasks are the behaviours to keep, and whose data settings filter and split.
        preparation: malformed rows stop it or are set aside in ``bad_rows.jsonl``; it is told its progress.

    Raises:
        UsageError: ``out`` holds something that is not a store, or the log's behaviours are not the tasks.
        BadRowError: a malformed row.
        CounterpointError: nothing is left to train on, to validate or to test, or the disk is full.
    """
    progress, tasks = preparation.progress, recipe.tasks
    counts: Counter[str] = Counter({OUTSIDE: 0, f"leaks removed from {recipe.target}": 0})
    with new_store(out) as folder:
        blocks = folder / "blocks"
        blocks.mkdir()
        bad = BadRows(preparation.on_bad_row, folder / "bad_rows.jsonl")
        log = read_log(source, recipe, blocks, bad, counts, progress)
        filtered = None if source.test else recipe.data
        pairs = distinct_pairs(log, tasks, filtered, counts, source.log, progress)
        given = _given(source, log, pairs, recipe.target, bad, counts, progress)
        cut = _cut(source, pairs, given, recipe.target, recipe.data, counts)
        shutil.rmtree(blocks)
        progress("writing the store", 0, 1)
        train = _guarded(pairs, cut, tasks, counts)
        splits = _renumbered(pairs, train, cut, counts)
        sizes = {split: len(by_behaviour[recipe.target]) for split, by_behaviour in splits.pairs.items()}
        _refuse_empty(source, sizes, recipe.target, counts)
        _write(folder, splits)
        counts["bad rows set aside"] = bad.count
        users, items = id_keys(splits.users), id_keys(splits.items)
        write_json(
            folder / "manifest.json",
            {
                "workload": "behaviors",
                "format": FORMAT,
                "source": {"format": source.format.name, "files": [str(file) for file in source.files]},
                "target": recipe.target,
                "behaviours": tasks,
                "settings": {name: getattr(recipe.data, name) for name in cut.shaped_by},
                "rows": {"users": len(users), "items": len(items)},
                "splits": sizes,
                "split rule": cut.rule,
                "fingerprints": {
                    split: fingerprint(by_behaviour, users, items)
                    for split, by_behaviour in splits.pairs.items()
                },
                "simulated": copy_truth(source.log.parent, folder),
                "counts": dict(sorted(counts.items())),
            },
        )
        progress("writing the store", 1, 1)
    return Store(out)


@dataclass(frozen=True)
class _Splits:
    """The pairs of each split and behaviour by rows of the store, and the ids in these rows."""

    users: pl.Series
    items: pl.Series
    pairs: dict[str, dict[str, Interactions]]


def _given(
    source: Source,
    log: Log,
    pairs: Pairs,
    target: str,
    bad: BadRows,
    counts: Counter[str],
    progress: Progress,
) -> dict[str, Keys]:
    """Return the pairs that the data hold out themselves by their split, none where they bring no split."""
    read = source.format.pairs
    files = {"test": source.test, "validation": source.validation}
    return {
        split: held_out_keys(
            list(read(file, split, target, bad, counts, progress)), split, log, pairs, counts
        )
        for split, file in files.items()
        if file is not None and read is not None
    }


def _cut(
    source: Source,
    pairs: Pairs,
    given: Mapping[str, Keys],
    target: str,
    settings: Data,
    counts: Counter[str],
) -> Cut:
    """Divide the target's pairs as the data or the settings say."""
    own = pairs.keys[target]
    if given:
        cut = as_given(own, given["test"], given.get("validation"), target, settings)
        if "validation" in given:
            counts[f"validation {_TESTED}"] = len(given["validation"]) - len(cut.validation)
        held_out = np.concatenate(list(given.values()))
        counts[f"leaks removed from {target}"] = len(own) - len(minus(own, np.unique(held_out)))
        return cut
    if settings.split == "random":
        return at_random(own, target, settings)
    if pairs.times is None:
        raise CounterpointError(
            f"{source.log}: the log has no times, which data.split = 'last' needs; add a column time or set "
            "data.split to 'random'."
        )
    return by_time(own, pairs.users_of(own), pairs.times, target, settings)


def _guarded(pairs: Pairs, cut: Cut, tasks: Sequence[str], counts: Counter[str]) -> dict[str, Keys]:
    """Return what trains: no auxiliary pair that is a target pair of validation or test (A.2)."""
    held_out = np.union1d(cut.validation, cut.test)
    train = {tasks[0]: cut.train}
    for name in tasks[1:]:
        train[name] = minus(pairs.keys[name], held_out)
        counts[f"leaks removed from {name}"] = len(pairs.keys[name]) - len(train[name])
    return train


def _renumbered(pairs: Pairs, train: Mapping[str, Keys], cut: Cut, counts: Counter[str]) -> _Splits:
    """Give rows to the users and items that train, and drop held-out pairs of others."""
    met_users, met_items, trained_users, trained_items = (
        np.zeros(len(ids), dtype=bool) for ids in (pairs.users, pairs.items) * 2
    )
    for name, own in pairs.keys.items():
        met_users[pairs.users_of(own)] = met_items[pairs.items_of(own)] = True
        trained_users[pairs.users_of(train[name])] = trained_items[pairs.items_of(train[name])] = True
    counts["users"], counts["items"] = int(met_users.sum()), int(met_items.sum())
    counts["users with training pairs"] = int(trained_users.sum())
    counts["items with training pairs"] = int(trained_items.sum())
    user_rows, item_rows = np.cumsum(trained_users) - 1, np.cumsum(trained_items) - 1

    def matrix(own: Keys) -> Interactions:
        users, items = user_rows[pairs.users_of(own)], item_rows[pairs.items_of(own)]
        return Interactions.of_pairs(users, items, counts["users with training pairs"])

    target = next(iter(train))
    split_pairs = {"train": {name: matrix(own) for name, own in train.items()}}
    for name, own in train.items():
        counts[f"training pairs of {name}"] = len(own)
    for split, own in (("validation", cut.validation), ("test", cut.test)):
        known = trained_users[pairs.users_of(own)] & trained_items[pairs.items_of(own)]
        counts[f"{split} {UNTRAINED}"] += len(own) - int(known.sum())
        split_pairs[split] = {target: matrix(own[known])}
    return _Splits(
        pairs.users.filter(pl.Series(trained_users)),
        pairs.items.filter(pl.Series(trained_items)),
        split_pairs,
    )


def _refuse_empty(source: Source, sizes: Mapping[str, int], target: str, counts: Counter[str]) -> None:
    """Refuse a store with an empty split; the remedy is that of what most of its pairs were dropped for."""
    needed = {
        UNTRAINED: "pairs of users and items that the log has",
        _TESTED: "pairs that do not test",
        others_than(target): f"rows of {target}",
    }
    for split, size in sizes.items():
        if size:
            continue
        dropped = {what: number for what in needed if (number := counts[f"{split} {what}"])}
        told = ", ".join(f"{number} {what}" for what, number in dropped.items())
        why = f" ({told} were dropped)" if told else ""
        held = {"test": source.test, "validation": source.validation}.get(split)
        if held is not None:
            most = max(dropped, key=lambda what: dropped[what], default=UNTRAINED)
            remedy = f"{held.name} must hold {needed[most]}"
        elif source.test is not None:
            remedy = "bring more, or set data.validation_share anew"
        else:
            remedy = "bring more, lower data.least_bought and data.least_buyers, or set the shares anew"
        raise CounterpointError(
            f"{held or source.log}: no {target} pair is left for {_USES[split]}{why}; {remedy}."
        )


_TESTED = "pairs that test too"
"""The count of pairs of a given validation split that are dropped, after its name."""

_USES = {"train": "training", "validation": "validation", "test": "testing"}


def _write(folder: Path, splits: _Splits) -> None:
    """Write the ids and the pairs."""
    pl.DataFrame({"user": splits.users}).write_parquet(folder / "users.parquet")
    pl.DataFrame({"item": splits.items}).write_parquet(folder / "items.parquet")
    arrays = folder / "arrays"
    arrays.mkdir()
    for split, by_behaviour in splits.pairs.items():
        for number, pairs in enumerate(by_behaviour.values()):
            stem = array_stem(split, number)
            np.save(arrays / f"{stem}_offsets.npy", pairs.offsets)
            np.save(arrays / f"{stem}_items.npy", pairs.items)
