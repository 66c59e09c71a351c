"""From the tasks' files to a prepared store: read, checked, divided, tokenised, written in one move."""

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
from jaxtyping import Bool

from counterpoint.encoders.tokens import Tokenizer, encode
from counterpoint.errors import CounterpointError, UsageError
from counterpoint.progress import Progress, silent
from counterpoint.sentences.data.formats import Format, sentences
from counterpoint.sentences.data.layout import Files, all_files
from counterpoint.sentences.data.rows import no_rows
from counterpoint.sentences.data.store import FORMAT, SPLITS, Store, shape_of, table_name
from counterpoint.sentences.recipe import Data, Task
from counterpoint.storage.arrays import RaggedArray
from counterpoint.storage.files import new_store, write_json
from counterpoint.storage.keys import key
from counterpoint.storage.rows import BadRows

SHAPING = ("max_tokens", "validation_share", "split_seed")
"""The keys of `Data` that shape a store."""

COUNTED = 2
"""Version of what is counted: a cached store with fewer counts is made anew, elsewhere it is still read."""

_TOKENISED = 4_096  # sentences at once


def prepare(
    files: Mapping[str, Files],
    out: Path,
    tokenizer: Tokenizer,
    settings: Data,
    tasks: Mapping[str, Task],
    *,
    form: Format = sentences.FORMAT,
    on_bad_row: Literal["stop", "skip"] = "stop",
    progress: Progress = silent,
) -> Store:
    """Read the files of some tasks into a store at ``out``; only a whole new store replaces an older one.

    Every distinct sentence is kept and tokenised once, whatever tasks and rows it stands in. The rows of all
    tasks are in memory while they are read.

    Args:
        files: of each task; one without training files has rows for a trained model alone.
        out: the store's folder.
        tokenizer: the encoder's.
        settings: where sentences are cut, and what becomes validation.
        tasks: what the rows hold.
        form: the format of the files.
        on_bad_row: stop at the first malformed row, or set them all aside in ``bad_rows.jsonl``.
        progress: told how far the work is.

    Raises:
        UsageError: ``out`` holds something that is not a store, or sentences are to be cut to nothing.
        BadRowError: a malformed row.
        CounterpointError: a task's training files have no rows, a column is missing, or the disk is full.
    """
    counts: Counter[str] = Counter()
    with new_store(out) as folder:
        bad = BadRows(on_bad_row, folder / "bad_rows.jsonl")
        splits = {
            name: _divided(name, of_task, form, tasks[name], settings, bad, counts, progress)
            for name, of_task in files.items()
        }
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
                "tasks": {name: shape_of(tasks[name]) for name in files},
                "settings": {name: getattr(settings, name) for name in SHAPING},
                "splits": {split: sum(len(each[split]) for each in splits.values()) for split in SPLITS},
                "split rule": f"a random {settings.validation_share:.0%} of each task's training rows "
                "validates, the test files test",
                "fingerprints": {
                    split: _fingerprint({name: each[split] for name, each in splits.items()})
                    for split in SPLITS
                },
                "simulated": False,
                "counts": dict(counts),
            },
        )
    return Store(out)


def _divided(
    name: str,
    files: Files,
    form: Format,
    task: Task,
    settings: Data,
    bad: BadRows,
    counts: Counter[str],
    progress: Progress,
) -> dict[str, pl.DataFrame]:
    """Return the rows of a task by split; labels are NaN where there are none."""
    found: dict[str, pl.DataFrame] = {}
    for split, paths in (("train", files.train), ("test", files.test), ("unlabelled", files.unlabelled)):
        known, before = split != "unlabelled", bad.count
        read = [form.rows(file, task, labelled=known, bad=bad, progress=progress) for file in paths]
        found[split] = pl.concat([no_rows(task, labelled=known), *read])
        _count(counts, f"{split} rows of {name} set aside", bad.count - before)
    whole = found["train"]
    if files.train and len(whole) < 2:
        raise CounterpointError(
            f"{files.train[0]}: the task {name!r} has {len(whole)} sound training rows and needs two at "
            "least, one of them to validate; bring more, or leave the task out of tasks."
        )
    held_out = pl.Series(_drawn(len(whole), name, settings))
    splits = {
        "train": whole.filter(~held_out),
        "validation": whole.filter(held_out),
        "test": found["test"],
        "unlabelled": found["unlabelled"].with_columns(pl.lit(np.nan).alias("label")),
    }
    for split, rows in splits.items():
        counts[f"{split} rows of {name}"] = len(rows)
    return splits


def _count(counts: Counter[str], what: str, number: int) -> None:
    """Note a number of rows that something befell, if there are any."""
    if number:
        counts[what] = number


def _drawn(rows: int, name: str, settings: Data) -> Bool[np.ndarray, " rows"]:
    """Draw the rows that validate: for each task by itself, whatever others there are."""
    draw = np.random.default_rng((settings.split_seed, key(name)))
    held_out = np.zeros(rows, dtype=bool)
    most = max(0, rows - 1)
    held_out[draw.permutation(rows)[: min(max(1, round(settings.validation_share * rows)), most)]] = True
    return held_out


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


def _numbered(rows: pl.DataFrame, sentences: pl.Series) -> pl.DataFrame:
    """Return rows with the numbers of their sentences in the sentences' places."""
    numbers = pl.DataFrame({"text": sentences}).with_row_index("number")
    for side in ("first", "second"):
        if side in rows.columns:
            found = rows.select(pl.col(side).alias("text")).join(
                numbers, on="text", how="left", maintain_order="left"
            )
            rows = rows.with_columns(found["number"].cast(pl.Int64).alias(side))
    return rows


def _tokenise(
    folder: Path, sentences: pl.Series, tokenizer: Tokenizer, max_tokens: int, progress: Progress
) -> Bool[np.ndarray, " sentences"]:
    """Write the word pieces of all sentences; return which sentences were cut."""
    frame = tokenizer.frame()
    most = max_tokens - len(frame.before) - len(frame.after)
    if most < 1:
        raise UsageError(f"data.max_tokens = {max_tokens} leaves no room for a word; set it higher.")
    (folder / "arrays").mkdir()
    written = RaggedArray(folder / "arrays", "tokens", "offsets", np.int32)
    cut = np.zeros(len(sentences), dtype=bool)
    for start in range(0, len(sentences), _TOKENISED):
        encoded = encode(tokenizer, sentences[start : start + _TOKENISED].to_list(), most, special=False)
        cut[start : start + _TOKENISED] = [one.truncated for one in encoded]
        written.append(
            np.concatenate([np.array(one.ids, dtype=np.int32) for one in encoded]),
            np.array([len(one.ids) for one in encoded]),
        )
        progress("tokenising sentences", min(start + _TOKENISED, len(sentences)), len(sentences))
    written.close()
    return cut


def _fingerprint(rows: Mapping[str, pl.DataFrame]) -> str:
    """Return 16 hex digits of what a split's rows say, in their order."""
    digest = hashlib.blake2b(digest_size=8)
    for name, of_task in rows.items():
        digest.update(f"{name} {len(of_task)} ".encode())
        digest.update(of_task.write_ndjson().encode())
    return digest.hexdigest()
