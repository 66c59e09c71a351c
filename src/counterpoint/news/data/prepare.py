"""From raw logs to a prepared store: streamed, checked, tokenised once, written in one move."""

import shutil
from pathlib import Path
from typing import Literal

import polars as pl

from counterpoint.encoders.tokens import Tokenizer
from counterpoint.errors import CounterpointError, UsageError
from counterpoint.news.data.articles import ArticleWriter
from counterpoint.news.data.bare import bare_articles
from counterpoint.news.data.fingerprints import fingerprints
from counterpoint.news.data.impressions import ImpressionWriter
from counterpoint.news.data.layout import Part, Source
from counterpoint.news.data.splits import assign_splits
from counterpoint.news.data.store import FORMAT, Store
from counterpoint.news.data.truth import copy_truth
from counterpoint.news.data.vectors import copy_vectors
from counterpoint.progress import Progress, silent
from counterpoint.storage.files import new_store, read_json, write_json
from counterpoint.storage.rows import BadRows


def prepare(
    source: Source,
    target: Path,
    tokenizer: Tokenizer,
    *,
    max_title_tokens: int = 20,
    max_text_tokens: int = 50,
    sentiment: Literal["given", "vader"] = "given",
    needs_text: bool = True,
    validation_days: int = 1,
    test_days: int = 1,
    on_bad_row: Literal["stop", "skip"] = "stop",
    progress: Progress = silent,
) -> Store:
    """Read raw logs into a store at ``target``; an older store there is replaced only by a whole new one.

    Args:
        source: the raw files.
        target: the store's folder.
        tokenizer: the encoder's.
        max_title_tokens: where titles are cut.
        max_text_tokens: where subtitles, abstracts and bodies are cut, each.
        sentiment: the data's own, or VADER's of English titles.
        needs_text: refuse data without a file of articles; otherwise their articles are the ids that occur.
        validation_days: how many of the last training days become validation.
        test_days: how many of the last days become the test split where no folder says so.
        on_bad_row: stop at the first malformed row, or set them all aside in ``bad_rows.jsonl``.
        progress: told how far the reading is.

    Raises:
        UsageError: ``target`` holds something that is not a store, there are no articles although texts are
            needed, or VADER is not installed.
        BadRowError: a malformed row.
        CounterpointError: an empty file, no clicks, nothing to train on, or a disk that is full.
    """
    if needs_text and not source.articles:
        raise UsageError(_no_articles(source))
    with new_store(target) as folder:
        arrays = folder / "arrays"
        arrays.mkdir()
        bad = BadRows(on_bad_row, folder / "bad_rows.jsonl")
        articles = ArticleWriter(folder, tokenizer, max_title_tokens, max_text_tokens, sentiment)
        for file in source.articles:
            for block in source.format.articles(file, bad, progress):
                articles.add(file, block, bad)
        if not source.articles:
            articles.add(source.folder, bare_articles(source, progress), bad)
        articles.close()
        impressions = ImpressionWriter(folder, articles.ids)
        for number, part in enumerate(source.parts):
            _read_part(source, number, part, impressions, bad, progress)
        impressions.close()
        simulated = copy_truth(source.parts, arrays)
        split = assign_splits(
            arrays,
            source.parts,
            validation_days=validation_days,
            test_days=test_days,
            day_begins=source.format.day_begins,
        )
        _refuse_untrainable(source, impressions.counts["clicks"], split.sizes["train"])
        _finish_impressions(folder, split.names)
        counts = {
            **articles.counts,
            **impressions.counts,
            **copy_vectors(source.vectors, folder),
            "bad rows set aside": bad.count,
        }
        write_json(
            folder / "manifest.json",
            {
                "workload": "news",
                "format": FORMAT,
                "source": {"format": source.format.name, "files": [str(file) for file in source.files]},
                "tokenizer": {
                    "name": tokenizer.name,
                    "fingerprint": tokenizer.fingerprint,
                    "max_title_tokens": max_title_tokens,
                    "max_text_tokens": max_text_tokens,
                },
                "text": bool(source.articles),
                "texts": articles.texts,
                "sentiment": sentiment,
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
    return Store(target)


def _no_articles(source: Source) -> str:
    """Return the sentence about articles that are missing."""
    wanted = " or ".join(source.format.article_files)
    remedy = source.format.without_articles.format(folder=source.folder)
    return f"{source.folder}: there is {source.parts[0].impressions.name} but no {wanted}; {remedy}."


def _read_part(
    source: Source,
    number: int,
    part: Part,
    impressions: ImpressionWriter,
    bad: BadRows,
    progress: Progress,
) -> None:
    """Read the histories of a part, where they stand alone, and its impressions."""
    if part.histories is not None and source.format.histories is not None:
        for block in source.format.histories(part.histories, bad, progress):
            impressions.histories.add_own(number, part.histories, block, bad)
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
