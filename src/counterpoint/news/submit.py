"""Submissions as MIND and EB-NeRD ask for them: a text file in a zip, one line an impression.

Both competitions have test sets of millions of impressions, so ranks are made, written, read back and
compared in blocks, and only one block is in memory.
"""

import hashlib
import math
import zipfile
import zlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Int

from counterpoint.capabilities import Submission
from counterpoint.errors import CounterpointError
from counterpoint.metrics.impressions import METRICS, Ranking, impression_metrics, ranks
from counterpoint.news.data.store import Store
from counterpoint.news.models.recommender import Recommender
from counterpoint.news.recipe import NewsRecipe
from counterpoint.news.scoring import context_of, encode_articles, features_of, score_impressions
from counterpoint.progress import Progress
from counterpoint.storage.files import new_file

_NAMES = {"mind": "prediction.txt", "ebnerd": "predictions.txt"}
_OTHERS = "prediction.txt"
_IMPRESSIONS, _CANDIDATES = 100_000, 2_000_000
"""At most so many impressions and candidates make a block."""


def write_submission(
    model: Recommender, recipe: NewsRecipe, store: Store, split: str, out: Path, progress: Progress
) -> Submission:
    """Rank a split and write the rank of each candidate in its original position, 1 the best.

    Lines stand in the order of the raw file, which is what they are known by: ids may come again.

    Raises:
        CounterpointError: what is read back is not what was written.
    """
    rows = store.split(split)
    blocks = list(_blocks(store.candidate_counts(rows)))
    name = _NAMES.get(store.manifest["source"]["format"], _OTHERS)
    written = []
    with (
        new_file(out) as path,
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open(name, "w", force_zip64=True) as lines,
    ):
        for ranked, block in zip(_ranks(model, recipe, store, split, blocks, progress), blocks, strict=True):
            text = _lines(store.impression_ids(rows[block]), ranked, store.candidate_counts(rows[block]))
            lines.write(text)
            written.append(_digest(text))
    totals, matching = _Totals(), 0
    for read in _read_blocks(out, name, [block.stop - block.start for block in blocks]):
        if matching == len(blocks) or _digest(_lines(*read)) != written[matching]:
            raise _differs(out)
        block = blocks[matching]
        shown = store.impressions(rows[block])
        totals.add(impression_metrics(read[1], shown.clicked == 1, shown.offsets))
        matching += 1
        progress("reading back", block.stop, len(rows))
    if matching < len(blocks):
        raise _differs(out)
    return Submission(out, split, len(rows), "impressions", totals.means())


def _ranks(
    model: Recommender,
    recipe: NewsRecipe,
    store: Store,
    split: str,
    blocks: list[slice],
    progress: Progress,
) -> Iterator[Int[np.ndarray, " candidates"]]:
    """Yield the ranks of each block's candidates: those that evaluation gives the whole split at once."""
    rows, most = store.split(split), recipe.data.max_history
    needed = np.zeros(len(store.published()), dtype=bool)
    for block in blocks:
        shown = store.impressions(rows[block])
        needed[shown.candidates] = True
        needed[store.histories(np.unique(shown.history), most)[0]] = True
    training = model.training
    model.eval()
    features, context = features_of(model, recipe, store), context_of(recipe, store, split)
    index = encode_articles(model, features, np.flatnonzero(needed), progress)
    # One generator for all blocks draws the tie-breakers that a whole split would get from the same seed.
    ties = np.random.default_rng(0)
    for block in blocks:
        shown = store.impressions(rows[block])
        scores = score_impressions(model, index, store, shown, most, context)
        progress("ranking", block.stop, len(rows))
        yield ranks(scores, shown.offsets, seed=ties)
    model.train(training)


def _blocks(candidates: Int[np.ndarray, " impressions"]) -> Iterator[slice]:
    """Yield slices of impressions that are not too many and have not too many candidates."""
    ends = np.cumsum(candidates)
    start = 0
    while start < len(ends):
        done = int(ends[start - 1]) if start else 0
        stop = int(np.searchsorted(ends, done + _CANDIDATES, side="right"))
        stop = max(start + 1, min(stop, start + _IMPRESSIONS))
        yield slice(start, stop)
        start = stop


def _lines(
    ids: list[str], ranked: Int[np.ndarray, " candidates"], lengths: Int[np.ndarray, " impressions"]
) -> bytes:
    """Return ``id [rank,rank,…]`` of each impression, a line each."""
    listed = (
        pl.DataFrame({"impression": np.repeat(np.arange(len(ids)), lengths), "rank": ranked})
        .group_by("impression", maintain_order=True)
        .agg(pl.col("rank").cast(pl.String).str.join(","))
    )
    lines = pl.DataFrame({"id": ids, "ranks": listed["rank"]}).select(pl.format("{} [{}]\n", "id", "ranks"))
    return "".join(lines.to_series().to_list()).encode()


_Block = tuple[list[str], Int[np.ndarray, " candidates"], Int[np.ndarray, " impressions"]]


def _read_blocks(path: Path, name: str, sizes: list[int] | None = None) -> Iterator[_Block]:
    """Yield ids, ranks and numbers of candidates, block by block; what ``sizes`` leaves comes at the end."""
    try:
        with zipfile.ZipFile(path) as archive, archive.open(name) as lines:
            first, number = 1, 0
            while True:
                size = sizes[number] if sizes is not None and number < len(sizes) else _IMPRESSIONS
                block = list(islice(lines, size))
                if not block:
                    return
                yield _parsed(f"{path}, {name}", first, block)
                first, number = first + len(block), number + 1
    except (zipfile.BadZipFile, KeyError, EOFError, zlib.error) as error:
        raise CounterpointError(
            f"{path}: no zip with {name} inside ({error}); write the submission again."
        ) from error


def _parsed(place: str, first: int, lines: list[bytes]) -> _Block:
    """Return what lines of a submission say; ``first`` is the number of the first of them."""
    text = pl.DataFrame({"line": [line.decode("utf-8", errors="replace") for line in lines]})
    fields = text.select(pl.col("line").str.extract_groups(r"^(\S+) \[(\d+(?:,\d+)*)\]\n?$")).unnest("line")
    wrong = fields["1"].is_null().arg_max()
    if wrong is not None and fields["1"][wrong] is None:
        raise CounterpointError(
            f"{place}, line {first + wrong}: not an id and a list of ranks; write the submission again."
        )
    listed = fields["2"].str.split(",").cast(pl.List(pl.Int64), strict=False)
    lengths = listed.list.len().to_numpy().astype(np.int64)
    ranked = listed.explode().fill_null(0).to_numpy()
    size = np.repeat(lengths, lengths)
    seen = np.zeros(len(ranked), dtype=bool)
    starts = np.repeat(np.cumsum(lengths) - lengths, lengths)
    possible = (ranked >= 1) & (ranked <= size)
    seen[(starts + ranked - 1)[possible]] = True
    if not seen.all():
        impression = int(np.searchsorted(np.cumsum(lengths), np.flatnonzero(~seen)[0], side="right"))
        raise CounterpointError(
            f"{place}, line {first + impression}: the ranks are no permutation of 1 to "
            f"{lengths[impression]}; write the submission again."
        )
    return fields["1"].to_list(), ranked, lengths


class _Totals:
    """Means of metrics over the impressions that can be scored, gathered block by block."""

    def __init__(self) -> None:
        self._sums: dict[str, list[float]] = {name: [] for name in METRICS}
        self._scored = 0

    def add(self, ranking: Ranking) -> None:
        """Add the metrics of some impressions, NaN where one cannot be scored."""
        for name, sums in self._sums.items():
            sums.append(float(np.nansum(ranking.per_impression[name])))
        self._scored += ranking.scored

    def means(self) -> dict[str, float]:
        """Return the mean of every metric; nothing if no impression was scored."""
        if not self._scored:
            return {}
        return {name: math.fsum(sums) / self._scored for name, sums in self._sums.items()}


def _digest(text: bytes) -> bytes:
    return hashlib.blake2b(text, digest_size=16).digest()


def _differs(out: Path) -> CounterpointError:
    return CounterpointError(
        f"{out}: reads back differently from what was written; check the disk and write it again."
    )
