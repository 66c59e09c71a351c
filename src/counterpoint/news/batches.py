"""Training batches: clicks with fresh non-clicks each epoch, every article once, no padding of texts."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from counterpoint.errors import CounterpointError
from counterpoint.news.context import Context
from counterpoint.news.data.store import UNKNOWN, Store
from counterpoint.news.features import ArticleFeatures, FeatureReader, padded
from counterpoint.news.models.vocabulary import reader_keys
from counterpoint.news.recipe import NewsRecipe
from counterpoint.news.tasks import TASKS
from counterpoint.news.tasks.protocol import Drawn


@dataclass(frozen=True)
class Batch:
    """Clicks of a batch and the distinct articles they need.

    Attributes:
        packs: the articles; where auxiliary tasks see a part only, that part is the first pack.
        history: articles each reader clicked, oldest first; -1 pads.
        candidates: the click's article, then its non-clicks'.
        readers: key of each click's reader.
        context: age and recent clicks of the candidates, as the recipe asks.
        labels: of each auxiliary task.
    """

    packs: tuple[ArticleFeatures, ...]
    history: Int[Tensor, "clicks places"]
    candidates: Int[Tensor, "clicks candidates"]
    readers: Int[Tensor, " clicks"]
    context: Float[Tensor, "clicks candidates features"]
    labels: Mapping[str, Tensor]

    def __len__(self) -> int:
        return len(self.candidates)

    def to(self, device: torch.device) -> "Batch":
        """Return the batch on ``device``."""
        return Batch(
            tuple(pack.to(device) for pack in self.packs),
            self.history.to(device),
            self.candidates.to(device),
            self.readers.to(device),
            self.context.to(device),
            {task: labels.to(device) for task, labels in self.labels.items()},
        )


class TrainingBatches:
    """All batches of a training split, each a function of (seed, epoch, number): resumable at any point.

    One example is one click with ``negatives`` non-clicks of the same impression: drawn without replacement,
    topped up by going through them again where there are fewer; a click in an impression without a known
    non-click is skipped. Unknown articles are neither clicks nor non-clicks.

    Args:
        store: the prepared store.
        recipe: the recipe.
        features: reads the articles; by default what the recipe asks for.
        split: the split.

    Attributes:
        skipped: clicks that were left out, by reason.
    """

    def __init__(
        self,
        store: Store,
        recipe: NewsRecipe,
        features: FeatureReader | None = None,
        split: str = "train",
    ) -> None:
        self._store, self._recipe = store, recipe
        self._features = FeatureReader(store, recipe) if features is None else features
        self._tasks = {name: TASKS[name] for name in recipe.tasks[1:]}
        self._reader_keys = reader_keys(store)
        self._context = Context(store, (split,), recipe.click.context, recipe.click.clicks_hours)
        self._impressions = store.impressions(store.split(split))
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
        return self._assemble(candidates, self._impression_of[chosen[rank::processes]], draw)

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
        impressions: Int[np.ndarray, " clicks"],
        draw: np.random.Generator,
    ) -> Batch:
        """Return a batch whose articles are distinct and sorted by the length of their titles."""
        shown = self._impressions
        histories = shown.history[impressions]
        history, lengths = self._store.histories(histories, self._recipe.data.max_history)
        articles = np.unique(np.concatenate((candidates.ravel(), history)))
        sizes = self._features.lengths()[articles]
        share = self._recipe.auxiliary_share
        seen = np.zeros(len(articles), dtype=bool)
        seen[draw.permutation(len(articles))[: max(1, round(share * len(articles)))]] = True
        order = np.lexsort((sizes, ~seen))
        articles, seen = articles[order], seen[order]
        place_of = np.empty(int(articles.max()) + 1, dtype=np.int64)
        place_of[articles] = np.arange(len(articles))
        parts = [part for part in (articles[seen], articles[~seen]) if len(part)]
        times = np.broadcast_to(shown.time[impressions, None], candidates.shape)
        drawn = Drawn(parts[0], np.isin(parts[0], history), np.isin(parts[0], candidates), histories)
        return Batch(
            tuple(self._features.read(part) for part in parts),
            torch.from_numpy(padded(place_of[history], lengths)),
            torch.from_numpy(place_of[candidates]),
            torch.from_numpy(self._reader_keys[shown.reader[impressions]]),
            torch.from_numpy(self._context.of(candidates, times)),
            {name: task.labels(self._store, self._recipe, drawn) for name, task in self._tasks.items()},
        )
