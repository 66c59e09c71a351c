"""From the tasks' files to a prepared store: read, checked, divided, tokenised, written in one move."""

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Bool

from counterpoint.encoders.tokens import Tokenizer, encode
from counterpoint.errors import CounterpointError, UsageError
from counterpoint.progress import Progress
from counterpoint.sentences.data.formats import Format, sentences
from counterpoint.sentences.data.layout import Files, all_files
from counterpoint.sentences.data.splits import SPLITS, divided, told
from counterpoint.sentences.data.store import FORMAT, Store, shape_of, table_name
from counterpoint.sentences.recipe import SentencesRecipe, Task
from counterpoint.storage.arrays import RaggedArray
from counterpoint.storage.files import new_store, write_json
from counterpoint.storage.rows import BadRows
from counterpoint.workload import Preparation

SHAPING = ("max_tokens", "validation_share", "split_seed")
"""The keys of `Data` that shape a store."""

COUNTED = 2
"""Version of what is counted: a cached store with fewer counts is made anew, elsewhere it is still read."""

_TOKENISED = 4_096  # sentences at once


def prepare(
    files: Mapping[str, Files],
    out: Path,
    tokenizer: Tokenizer,
    recipe: SentencesRecipe,
    preparation: Preparation,
    *,
    form: Format = sentences.FORMAT,
) -> Store:
    """Read the files of some tasks into a store at ``out``; only a whole new store replaces an older one.

    Every distinct sentence is kept and tokenised once, whatever tasks and rows it stands in. The rows of all
    tasks are in memory while they are read.

    Args:
        files: of each task; one without training files has rows for a trained model alone.
        out: the store's folder.
        tokenizer: the encoder's.
        recipe: what the rows hold, where sentences are cut, and what becomes validation.
        preparation: malformed rows stop it or are set aside in ``bad_rows.jsonl``; it is told its progress.
        form: the format of the files.

    Raises:
        UsageError: ``out`` holds something that is not a store, or sentences are to be cut to nothing.
        BadRowError: a malformed row.
        CounterpointError: a task's training files have no rows, a column is missing, or the disk is full.
    """
    settings, progress = recipe.data, preparation.progress
    counts: Counter[str] = Counter()
    with new_store(out) as folder:
        bad = BadRows(preparation.on_bad_row, folder / "bad_rows.jsonl")
        splits = {}
        for name, of_task in files.items():
            read = _read(name, of_task, form, recipe.task[name], bad, counts, progress)
            splits[name] = divided(name, read, settings)
            counts.update({f"{split} rows of {name}": len(rows) for split, rows in splits[name].items()})
        texts = _distinct(splits)
        counts["distinct sentences"] = len(texts)
        pl.DataFrame({"text": texts}).write_parquet(folder / "sentences.parquet")
        cut = _tokenise(folder, texts, tokenizer, settings.max_tokens, progress)
        counts["sentences cut"] = int(cut.sum())
        for number, (name, of_splits) in enumerate(splits.items()):
            for split, rows in of_splits.items():
                numbered = _numbered(rows, texts)
                numbered.write_parquet(folder / f"{table_name(number, split)}.parquet")
                sides = numbered.select(pl.col("^(first|second)$")).to_numpy()
                _count(counts, f"{split} rows of {name} cut", int(cut[sides].any(axis=1).sum()))
        counts["bad rows set aside"] = bad.count
        write_json(
            folder / "manifest.json",
            {
                "workload": "sentences",
                "format": FORMAT,
                "source": {"format": form.name, "files": [str(file) for file in all_files(files)]},
                "tokenizer": {
                    "name": tokenizer.name,
                    "fingerprint": tokenizer.fingerprint,
                    "frame": asdict(tokenizer.frame()),
                },
                "tasks": {name: shape_of(recipe.task[name]) for name in files},
                "settings": {name: getattr(settings, name) for name in SHAPING},
                "splits": {split: sum(len(each[split]) for each in splits.values()) for split in SPLITS},
                "split rule": told(settings),
                "fingerprints": {
                    split: _fingerprint({name: each[split] for name, each in splits.items()})
                    for split in SPLITS
                },
                "simulated": False,
                "counts": dict(counts),
            },
        )
    return Store(out)


def _read(
    name: str,
    files: Files,
    form: Format,
    task: Task,
    bad: BadRows,
    counts: Counter[str],
    progress: Progress,
) -> dict[str, pl.DataFrame]:
    """Return the rows of a task's files, and count those that are set aside."""
    found: dict[str, pl.DataFrame] = {}
    for kind, paths in (("train", files.train), ("test", files.test), ("unlabelled", files.unlabelled)):
        known, before = kind != "unlabelled", bad.count
        read = [form.rows(file, task, labelled=known, bad=bad, progress=progress) for file in paths]
        found[kind] = pl.concat([sentences.no_rows(task, labelled=known), *read])
        _count(counts, f"{kind} rows of {name} set aside", bad.count - before)
    if files.train and len(found["train"]) < 2:
        raise CounterpointError(
            f"{files.train[0]}: the task {name!r} has {len(found['train'])} sound training rows and needs "
            "two at least, one of them to validate; bring more, or leave the task out of tasks."
        )
    return found


def _count(counts: Counter[str], what: str, number: int) -> None:
    """Note a number of rows that something befell, if there are any."""
    if number:
        counts[what] = number


def _distinct(splits: Mapping[str, Mapping[str, pl.DataFrame]]) -> pl.Series:
    """Return every sentence once, in order of first appearance."""
    columns = [
        rows[side]
        for of_splits in splits.values()
        for rows in of_splits.values()
        for side in ("first", "second")
        if side in rows.columns
    ]
    return pl.concat([column.alias("text") for column in columns]).unique(maintain_order=True)


def _numbered(rows: pl.DataFrame, texts: pl.Series) -> pl.DataFrame:
    """Return rows with the numbers of their sentences in the sentences' places."""
    numbers = pl.DataFrame({"text": texts}).with_row_index("number")
    for side in ("first", "second"):
        if side in rows.columns:
            found = rows.select(pl.col(side).alias("text")).join(
                numbers, on="text", how="left", maintain_order="left"
            )
            rows = rows.with_columns(found["number"].cast(pl.Int64).alias(side))
    return rows


def _tokenise(
    folder: Path, texts: pl.Series, tokenizer: Tokenizer, max_tokens: int, progress: Progress
) -> Bool[np.ndarray, " sentences"]:
    """Write the word pieces of all sentences; return which sentences were cut."""
    frame = tokenizer.frame()
    most = max_tokens - len(frame.before) - len(frame.after)
    if most < 1:
        raise UsageError(f"data.max_tokens = {max_tokens} leaves no room for a word; set it higher.")
    (folder / "arrays").mkdir()
    written = RaggedArray(folder / "arrays", "tokens", "offsets", np.int32)
    cut = np.zeros(len(texts), dtype=bool)
    for start in range(0, len(texts), _TOKENISED):
        encoded = encode(tokenizer, texts[start : start + _TOKENISED].to_list(), most, special=False)
        cut[start : start + _TOKENISED] = [one.truncated for one in encoded]
        written.append(
            np.concatenate([np.array(one.ids, dtype=np.int32) for one in encoded]),
            np.array([len(one.ids) for one in encoded]),
        )
        progress("tokenising sentences", min(start + _TOKENISED, len(texts)), len(texts))
    written.close()
    return cut


def _fingerprint(rows: Mapping[str, pl.DataFrame]) -> str:
    """Return 16 hex digits of what a split's rows say, in their order."""
    digest = hashlib.blake2b(digest_size=8)
    for name, of_task in rows.items():
        digest.update(f"{name} {len(of_task)} ".encode())
        digest.update(of_task.write_ndjson().encode())
    return digest.hexdigest()
