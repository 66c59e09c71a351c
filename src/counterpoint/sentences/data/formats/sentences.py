"""Sentences and pairs of sentences: the course's files of paper 3, or one's own as CSV, TSV or JSON lines."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl

from counterpoint.errors import CounterpointError, UsageError
from counterpoint.progress import Progress, silent
from counterpoint.sentences.data.formats import Format
from counterpoint.sentences.recipe import Task
from counterpoint.storage.rows import BadRows, Check, drop_bad, line_blocks, opened
from counterpoint.storage.text_tables import csv_blocks, csv_header, json_blocks, json_columns

_Blocks = Iterator[pl.DataFrame]

ID = "id"
SUFFIXES = (".csv", ".tsv", ".jsonl")


def read_rows(file: Path, task: Task, *, labelled: bool, bad: BadRows, progress: Progress) -> pl.DataFrame:
    """Return the sound rows of a file in their order.

    The columns are ``id`` (the line where a row has none), ``first`` and, for pairs, ``second``, without the
    spaces around them, and ``label`` as a number where rows are ``labelled``.

    Files of the course are separated by tabs whatever their name says. Such a file may come without a header:
    an index, which is a whole number, the id, the sentences and the label stand there in this order.

    Args:
        file: CSV, TSV or JSON lines.
        task: whose rows these are.
        labelled: whether the answer must be there.
        bad: what to do with malformed rows.
        progress: told how far the reading is.

    Raises:
        BadRowError: a malformed row.
        CounterpointError: a column is missing, or the file is empty.
    """
    needed = [*task.texts, *([task.label] if labelled else [])]
    checks = [*map(_filled, task.texts), *([_answer(task)] if labelled else [])]
    sides = [pl.col(name).alias(side) for name, side in zip(task.texts, ("first", "second"), strict=False)]
    label = [pl.col(task.label).cast(pl.Float64).alias("label")] if labelled else []
    sound = []
    for block in _blocks(file, needed, bad, progress):
        stripped = block.with_columns(pl.col(name).str.strip_chars() for name in needed)
        rows = drop_bad(stripped, checks, bad, file)
        given = pl.col(ID) if ID in rows.columns else pl.lit(None, pl.String)
        names = pl.when(given != "").then(given).otherwise(pl.col("line").cast(pl.String))
        sound.append(rows.select(names.alias(ID), *sides, *label))
    return pl.concat([no_rows(task, labelled=labelled), *sound])


def no_rows(task: Task, *, labelled: bool) -> pl.DataFrame:
    """Return the columns of `read_rows` without a row."""
    schema = dict.fromkeys((ID, *("first", "second")[: task.sides]), pl.String)
    return pl.DataFrame(schema={**schema, **({"label": pl.Float64} if labelled else {})})


def read_sentences(file: Path, column: str) -> Iterator[pl.Series]:
    """Yield the sentences of a file in blocks, without the spaces around them.

    Args:
        file: text with one on each line (.txt), or CSV, TSV or JSON lines.
        column: that has them, where there are columns.

    Raises:
        UsageError: the file is none of these.
        BadRowError: a sentence is empty.
        CounterpointError: the file or the column is missing.
    """
    bad = BadRows("stop", file)
    if file.suffix == ".txt":
        column, blocks = "row", line_blocks(file, bad, silent)
    elif file.suffix in SUFFIXES:
        blocks = _blocks(file, [column], bad, silent)
    else:
        raise UsageError(f"{file}: sentences are read from .txt, {', '.join(SUFFIXES)}; convert it.")
    for block in blocks:
        stripped = block.with_columns(pl.col(column).str.strip_chars())
        yield drop_bad(stripped, [_filled(column)], bad, file)[column]


def _blocks(file: Path, needed: Sequence[str], bad: BadRows, progress: Progress) -> _Blocks:
    """Yield the lines of a file as text: ``line``, ``row``, the id where there is one, and what is needed."""
    if file.suffix == ".jsonl":
        _wanted(file, json_columns(file), needed)
        # The first object may have no id where others have.
        wanted = list(dict.fromkeys((ID, *needed)))
        return json_blocks(file, wanted, bad, progress, fractions=True)
    separator = "\t" if b"\t" in _first_line(file) else ","
    columns = csv_header(file, separator)
    unnamed = len(columns) == 2 + len(needed) and not {ID, *needed} & set(columns)
    # A header may have other names than are needed, but it does not begin with an index.
    headless = separator == "\t" and unnamed and columns[0].isdecimal()
    if headless:
        columns = ["", ID, *needed]
    wanted = _wanted(file, columns, needed)
    return csv_blocks(file, columns, wanted, bad, progress, header=not headless, separator=separator)


def _first_line(file: Path) -> bytes:
    with opened(file) as stream:
        return stream.readline()


def _wanted(file: Path, columns: Sequence[str], needed: Sequence[str]) -> list[str]:
    """Return the columns to read, if all that is needed is there."""
    for name in needed:
        if columns.count(name) != 1:
            found = ", ".join(filter(None, columns)) or "none"
            raise CounterpointError(
                f"{file}: {columns.count(name) or 'no'} columns are called {name!r} (there are "
                f"{found[:200]}); "
                f"name {', '.join(needed)} once each, or bring the file of the right task."
            )
    return list(dict.fromkeys((*([ID] if columns.count(ID) == 1 else []), *needed)))


def _filled(text: str) -> Check:
    """Refuse a sentence that is empty or missing."""
    return Check(
        text,
        pl.col(text).is_null() | (pl.col(text) == ""),
        pl.lit("the sentence is empty"),
        "give every row its text or remove it",
    )


def _answer(task: Task) -> Check:
    """Refuse what is no class or no score of the task."""
    number = pl.col(task.label).cast(pl.Float64, strict=False)
    if task.classes is not None:
        wanted = f"no class from 0 to {task.classes - 1}"
        fits = (number >= 0) & (number < task.classes) & (number == number.floor())
    else:
        assert task.scores is not None
        low, high = task.scores
        wanted = f"no score from {low:g} to {high:g}"
        fits = number.is_between(low, high)
    shown = pl.col(task.label).str.slice(0, 40)
    empty = pl.col(task.label).is_null() | (pl.col(task.label) == "")
    problem = (
        pl.when(empty)
        .then(pl.lit("the label is missing"))
        .otherwise(pl.format("'{}' is {}", shown, pl.lit(wanted)))
    )
    return Check(task.label, number.is_null() | ~fits, problem, "correct it or remove the row")


FORMAT = Format(
    name="sentences",
    summary="files of each task as the recipe names them (.csv, .tsv, .jsonl): paper 3's course, or your own",
    suffixes=SUFFIXES,
    rows=read_rows,
)
