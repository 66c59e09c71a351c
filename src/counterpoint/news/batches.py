"""Training batches: clicks with fresh non-clicks each epoch, every title once, no padding of titles."""

from dataclasses import dataclass, fields

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from counterpoint.encoders.tokens import Texts
from counterpoint.errors import CounterpointError
from counterpoint.news.data.arrays import ranges
from counterpoint.news.data.store import UNKNOWN, Store
from counterpoint.news.recipe import NewsRecipe
from counterpoint.tasks.tagging import untyped


@dataclass(frozen=True)
class Batch:
    """Clicks of a batch and the distinct titles they need.

    Attributes:
        packs: the titles; where auxiliary tasks see a part only, that part is the first pack.
        history: titles each reader clicked, oldest first; -1 pads.
        candidates: the click's title, then its non-clicks'.
        categories: class of each title, -100 where it has none.
        tags: entity tag of each token, in the order of the packs; -100 for special tokens.
    """

    packs: tuple[Texts, ...]
    history: Int[Tensor, "clicks places"]
    candidates: Int[Tensor, "clicks candidates"]
    categories: Int[Tensor, " titles"]
    tags: Int[Tensor, " tokens"]

    def __len__(self) -> int:
        return len(self.candidates)

    def to(self, device: torch.device) -> "Batch":
        """Return the batch on ``device``."""
        packs = tuple(pack.to(device) for pack in self.packs)
        rest = {
            field.name: getattr(self, field.name).to(device)
            for field in fields(self)
            if field.name != "packs"
        }
        return Batch(packs, **rest)


class TrainingBatches:
    """All batches of a training split, each a function of (seed, epoch, number): resumable at any point.

    One example is one click with ``negatives`` non-clicks of the same impression: drawn without replacement,
    topped up by going through them again where there are fewer; a click in an impression without a known
    non-click is skipped. Unknown articles are neither clicks nor non-clicks.

    Attributes:
        skipped: clicks that were left out, by reason.
    """

    def __init__(self, store: Store, recipe: NewsRecipe, split: str = "train") -> None:
        self._store, self._recipe = store, recipe
        self._impressions = store.impressions(store.split(split))
        self._labels = store.labels_of(recipe.category.field)
        shown = self._impressions
        known = shown.candidates != UNKNOWN
        impression = np.repeat(np.arange(len(shown)), np.diff(shown.offsets))
        non_clicks = np.bincount(impression[known & (shown.clicked == 0)], minlength=len(shown))
        clicks = np.flatnonzero(shown.clicked == 1)
        usable = known[clicks] & (non_clicks[impression[clicks]] > 0)
        self._clicks, self._impression_of = clicks[usable], impression[clicks[usable]]
        self.skipped = {
            "clicks on unknown articles": int((~known[clicks]).sum()),
            "clicks without a known non-click": int(
                (known[clicks] & (non_clicks[impression[clicks]] == 0)).sum()
            ),
        }
        self._epoch_order = -1, np.empty(0, dtype=np.int64)
        if not len(self._clicks):
            raise CounterpointError(
                f"{store.path}: no click in split {split!r} has a known article and a non-click beside it; "
                "training needs some."
            )

    def __len__(self) -> int:
        """Batches in an epoch."""
        return -(-len(self._clicks) // self._recipe.training.batch_size)

    @property
    def examples(self) -> int:
        """Clicks in an epoch."""
        return len(self._clicks)

    def batch(self, epoch: int, number: int, *, rank: int = 0, processes: int = 1) -> Batch:
        """Return a batch, or one process's share of it.

        Shares are equally large, so that their mean gradient is the batch's: where the last batch cannot be
        divided, its first clicks come again.
        """
        seed, size = self._recipe.training.seed, self._recipe.training.batch_size
        chosen = self._order(epoch)[number * size : (number + 1) * size]
        chosen = np.resize(chosen, -(-len(chosen) // processes) * processes)
        draw = np.random.default_rng((seed, epoch, number))
        candidates = np.stack([self._candidates(click, draw) for click in chosen])[rank::processes]
        rows = self._impressions.history[self._impression_of[chosen[rank::processes]]]
        history, lengths = self._store.histories(rows, self._recipe.data.max_history)
        return self._assemble(candidates, history, lengths, draw)

    def _order(self, epoch: int) -> Int[np.ndarray, " clicks"]:
        """Return the order of an epoch's clicks; the last one asked for is kept."""
        if self._epoch_order[0] != epoch:
            draw = np.random.default_rng((self._recipe.training.seed, epoch))
            self._epoch_order = epoch, draw.permutation(len(self._clicks))
        return self._epoch_order[1]

    def _candidates(self, click: int, draw: np.random.Generator) -> Int[np.ndarray, " candidates"]:
        """Return a clicked article and non-clicks of its impression."""
        shown, impression = self._impressions, self._impression_of[click]
        place = slice(shown.offsets[impression], shown.offsets[impression + 1])
        others = shown.candidates[place][(shown.clicked[place] == 0) & (shown.candidates[place] != UNKNOWN)]
        drawn = np.resize(draw.permutation(others), self._recipe.data.negatives)
        return np.concatenate(([shown.candidates[self._clicks[click]]], drawn))

    def _assemble(
        self,
        candidates: Int[np.ndarray, "clicks candidates"],
        history: Int[np.ndarray, " articles"],
        lengths: Int[np.ndarray, " clicks"],
        draw: np.random.Generator,
    ) -> Batch:
        """Return a batch whose titles are distinct and sorted by length."""
        articles = np.unique(np.concatenate((candidates.ravel(), history)))
        title_lengths = self._store.title_lengths()[articles]
        share = self._recipe.auxiliary_share
        seen = np.zeros(len(articles), dtype=bool)
        seen[draw.permutation(len(articles))[: max(1, round(share * len(articles)))]] = True
        order = np.lexsort((title_lengths, ~seen))
        articles, seen = articles[order], seen[order]
        place_of = np.empty(int(articles.max()) + 1, dtype=np.int64)
        place_of[articles] = np.arange(len(articles))
        packs, tags = self._titles(articles, seen)
        return Batch(
            packs,
            torch.from_numpy(padded(place_of[history], lengths)),
            torch.from_numpy(place_of[candidates]),
            torch.from_numpy(np.asarray(self._labels[articles], dtype=np.int64)),
            torch.from_numpy(tags),
        )

    def _titles(
        self, articles: Int[np.ndarray, " titles"], seen: Bool[np.ndarray, " titles"]
    ) -> tuple[tuple[Texts, ...], Int[np.ndarray, " tokens"]]:
        """Return the packs and all their tags."""
        packs, tags = [], []
        for part in (articles[seen], articles[~seen]):
            if len(part):
                pack, typed = packed(self._store, part)
                packs.append(pack)
                tags.append(typed if self._recipe.entities.scheme == "bio-typed" else untyped(typed))
        return tuple(packs), np.concatenate(tags).astype(np.int64)


def padded(
    values: Int[np.ndarray, " values"], lengths: Int[np.ndarray, " rows"]
) -> Int[np.ndarray, "rows places"]:
    """Return lists that stand one after another as rows, with -1 behind the shorter ones."""
    rows = np.full((len(lengths), int(lengths.max(initial=0))), -1, dtype=np.int64)
    rows[np.repeat(np.arange(len(lengths)), lengths), ranges(np.zeros_like(lengths), lengths)] = values
    return rows


def packed(store: Store, articles: Int[np.ndarray, " titles"]) -> tuple[Texts, Int[np.ndarray, " tokens"]]:
    """Return the titles of ``articles``, which must be sorted by length, and their typed tags."""
    tokens, tags, lengths = store.titles(articles)
    return Texts(torch.from_numpy(tokens.astype(np.int64)), tuple(lengths.tolist())), tags
