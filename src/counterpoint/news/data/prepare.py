"""From raw logs to a prepared store: streamed, checked, tokenised once, written in one move."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from counterpoint.encoders.tokens import Tokenizer
from counterpoint.errors import CounterpointError, UsageError
from counterpoint.news.data.articles import ArticleWriter
from counterpoint.news.data.fingerprints import fingerprints
from counterpoint.news.data.impressions import ImpressionWriter
from counterpoint.news.data.layout import Source
from counterpoint.news.data.rows import ARTICLE_SCHEMA, in_schema
from counterpoint.news.data.side_files import copy_truth, copy_vectors
from counterpoint.news.data.splits import assign_splits
from counterpoint.news.data.store import FORMAT, Store
from counterpoint.news.recipe import Data
from counterpoint.progress import Progress
from counterpoint.storage.files import new_store, read_json, write_json
from counterpoint.storage.prepared import refuse_other_settings
from counterpoint.storage.rows import BadRows
from counterpoint.workload import Preparation


def prepare(
    source: Source,
    target: Path,
    tokenizer: Tokenizer,
    shape: Data,
    preparation: Preparation,
    *,
    needs_text: bool = True,
) -> Store:
    """Read raw logs into a store at ``target``; an older store there is replaced only by a whole new one.

    Args:
        source: the raw files.
        target: the store's folder.
        tokenizer: the encoder's.
        shape: where texts are cut, whose sentiment counts, and how many days validate and test.
        preparation: what becomes of malformed rows (``bad_rows.jsonl``), and who is told how far the work is.
        needs_text: refuse data without a file of articles; otherwise their articles are the ids that occur.

    Raises:
        UsageError: ``target`` holds something that is not a store, there are no articles although texts are
            needed, or VADER is not installed.
        BadRowError: a malformed row.
        CounterpointError: an empty file, no clicks, nothing to train on, or a disk that is full.
    """
    if needs_text and not source.articles:
        raise UsageError(_no_articles(source))
    progress = preparation.progress
    with new_store(target) as folder:
        arrays = folder / "arrays"
        arrays.mkdir()
        bad = BadRows(preparation.on_bad_row, folder / "bad_rows.jsonl")
        articles = ArticleWriter(folder, tokenizer, shape, bad)
        for file in source.articles:
            for block in source.format.articles(file, bad, progress):
                articles.add(file, block)
        if not source.articles:
            articles.add(source.folder, _bare_articles(source, progress))
        articles.close()
        impressions = ImpressionWriter(folder, articles.ids, bad)
        _read_impressions(source, impressions, bad, progress)
        progress("finishing the store", 0, 4)
        impressions.close()
        simulated = copy_truth(source.parts, arrays)
        vectors = copy_vectors(source.vectors, folder)
        progress("finishing the store", 1, 4)
        split = assign_splits(arrays, source, shape)
        _refuse_untrainable(source, impressions.counts["clicks"], split.sizes["train"])
        progress("finishing the store", 2, 4)
        _finish_impressions(folder, split.names)
        progress("finishing the store", 3, 4)
        counts = {**articles.counts, **impressions.counts, **vectors, "bad rows set aside": bad.count}
        write_json(
            folder / "manifest.json",
            {
                "workload": "news",
                "format": FORMAT,
                "source": {"format": source.format.name, "files": [str(file) for file in source.files]},
                "tokenizer": {
                    "name": tokenizer.name,
                    "fingerprint": tokenizer.fingerprint,
                    "max_title_tokens": shape.max_title_tokens,
                    "max_text_tokens": shape.max_text_tokens,
                },
                "text": bool(source.articles),
                "texts": articles.texts,
                "sentiment": shape.sentiment,
                "history values": impressions.histories.values,
                "labels": articles.labels,
                "splits": split.sizes,
                "split rule": split.rule,
                "fingerprints": fingerprints(arrays),
                "simulated": simulated,
                "simulated articles": _articles_are_simulated(source),
                "counts": dict(sorted(counts.items())),
            },
        )
        progress("finishing the store", 4, 4)
    return Store(target)


def require_made_for(store: Store, tokenizer: Tokenizer, shape: Data) -> None:
    """Refuse a store that was made for another tokenizer or with other settings.

    Raises:
        CounterpointError: it was.
    """
    made = store.manifest["tokenizer"]
    if made["fingerprint"] != tokenizer.fingerprint:
        raise CounterpointError(
            f"{store.path}: tokenised for {made['name']!r}, not for {tokenizer.name!r}; prepare the data "
            f"again with the encoder {tokenizer.name}."
        )
    made_with = {
        "data.max_title_tokens": made["max_title_tokens"],
        "data.max_text_tokens": made["max_text_tokens"],
        "data.sentiment": store.manifest["sentiment"],
    }
    asked = {f"data.{name}": value for name, value in shape.model_dump().items()}
    refuse_other_settings(store.path, made_with, asked)


def _no_articles(source: Source) -> str:
    """Return the sentence about articles that are missing."""
    wanted = " or ".join(source.format.article_files)
    remedy = source.format.without_articles.format(folder=source.folder)
    return f"{source.folder}: there is {source.parts[0].impressions.name} but no {wanted}; {remedy}."


def _bare_articles(source: Source, progress: Progress) -> pl.DataFrame:
    """Return the distinct ids of candidates and histories, in order, as articles without any text."""
    ids = pl.DataFrame({"article": []}, schema={"article": pl.String})
    for column in _id_columns(source, progress):
        found = column.explode(empty_as_null=False).drop_nulls().unique()
        ids = pl.concat([ids, found.rename("article").to_frame()]).unique()
    ids = ids.sort(pl.col("article").str.len_bytes(), "article").with_columns(title=pl.lit(""))
    return in_schema(ids.with_row_index("line", 1), ARTICLE_SCHEMA)


def _id_columns(source: Source, progress: Progress) -> Iterator[pl.Series]:
    """Yield every list of ids, block by block; what is malformed is told when it is read again."""
    unheard = BadRows("skip", Path(os.devnull))
    for part in source.parts:
        if part.histories is not None and source.format.histories is not None:
            for block in source.format.histories(part.histories, unheard, progress):
                yield block["history"]
        labelled = part.role != "test"
        for block in source.format.impressions(part.impressions, unheard, progress, labelled=labelled):
            yield block["candidates"]
            yield block["history"]


def _read_impressions(
    source: Source, impressions: ImpressionWriter, bad: BadRows, progress: Progress
) -> None:
    """Read the impressions of every part, after its histories where those stand alone."""
    for number, part in enumerate(source.parts):
        if part.histories is not None and source.format.histories is not None:
            for block in source.format.histories(part.histories, bad, progress):
                impressions.histories.add_own(number, part.histories, block)
        labelled = part.role != "test"
        for block in source.format.impressions(part.impressions, bad, progress, labelled=labelled):
            impressions.add(number, block)


def _articles_are_simulated(source: Source) -> bool:
    """Return whether the folder says that its articles were made up for ids that are real."""
    file = source.folder / "simulation.json"
    return file.is_file() and read_json(file).get("simulated") == "articles"


def _refuse_untrainable(source: Source, clicks: int, training: int) -> None:
    """Refuse data without any click, or without an impression to train on; a test set alone is welcome."""
    if all(part.role == "test" for part in source.parts):
        return
    files = ", ".join(str(part.impressions) for part in source.parts)
    if not clicks:
        raise CounterpointError(f"{files}: no clicks at all; training needs impressions with a click.")
    if not training:
        raise CounterpointError(
            f"{files}: all at one time, which leaves none to train on; say which train with folders train/ "
            "and test/."
        )


def _finish_impressions(folder: Path, names: pl.Expr) -> None:
    """Join the blocks of impressions into one Parquet file that says each one's split."""
    blocks = folder / "blocks"
    table = pl.scan_ipc(sorted(blocks.glob("impressions-*")), glob=False).with_columns(split=names)
    table.drop("part").sink_parquet(folder / "impressions.parquet")
    pl.scan_ipc(sorted(blocks.glob("histories-*")), glob=False).sink_parquet(folder / "histories.parquet")
    shutil.rmtree(blocks)
