"""The law of simulated views: who likes what, how far labels agree, and what is drawn from it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

VIEWING = ("effective_view", "long_view", "complete_view", "replay")
ENGAGEMENT = ("like", "follow", "forward", "comment")
MOST_TASKS = len(VIEWING) + len(ENGAGEMENT)

TOPICS = 24
DEVICES = ("phone", "tablet", "television")
VIDEOS_PER_AUTHOR = 6

_COMMONEST, _RAREST = 0.4, 0.008  # rates of the first label and, at heterogeneity 1, of the last
_TASTE, _OWN = 3, 1  # dimensions of a taste, and of what matters to one label alone
_OWN_SHARE = 0.3  # of a label's affinity that is its own
_SIGNAL, _QUALITY, _TENDENCY, _LENGTH = 1.3, 0.6, 0.7, 0.3  # standard deviations, in logits
_SAMPLE = 8_192  # views that intercepts are found on


def label_names(tasks: int) -> tuple[str, ...]:
    """Return the labels of so many tasks: viewing ones first, then as many of engagement, or one fewer."""
    viewing = (tasks + 1) // 2
    return (*VIEWING[:viewing], *ENGAGEMENT[: tasks - viewing])


@dataclass(frozen=True)
class Law:
    """What does not depend on single users and videos.

    Attributes:
        labels: their names.
        relatedness: correlation of what makes people watch with what makes them engage.
        conflict: correlation of the luck of labels of one kind, and less its sign of those of two kinds.
        intercepts: of each label's logit.
    """

    labels: tuple[str, ...]
    relatedness: float
    conflict: float
    intercepts: tuple[float, ...]

    @property
    def engages(self) -> Bool[np.ndarray, " labels"]:
        """Which labels are of engagement."""
        return np.array([label in ENGAGEMENT for label in self.labels])


@dataclass(frozen=True)
class Side:
    """Users, or videos, as the law sees them.

    Attributes:
        tastes: what makes people watch, then what makes them engage and is unrelated to it.
        own: what matters to one label alone.
        level: how likely the labels of each kind are by themselves: a video's quality, a user's tendency.
    """

    tastes: Float[np.ndarray, "some kinds taste"]
    own: Float[np.ndarray, "some labels own"]
    level: Float[np.ndarray, "some kinds"]

    def of(self, chosen: Int[np.ndarray, " chosen"]) -> "Side":
        """Return some of them, in this order."""
        return Side(self.tastes[chosen], self.own[chosen], self.level[chosen])


@dataclass(frozen=True)
class Videos:
    """All videos.

    Attributes:
        side: as the law sees them.
        authors: the number of each one's author.
        topics: and of its topic.
        seconds: how long each is.
        reach: the sum of the popularities up to each, the last one 1.
    """

    side: Side
    authors: Int[np.ndarray, " videos"]
    topics: Int[np.ndarray, " videos"]
    seconds: Float[np.ndarray, " videos"]
    reach: Float[np.ndarray, " videos"]


def draw_users(draw: np.random.Generator, count: int, labels: int) -> Side:
    """Draw users, each by oneself."""
    return Side(
        draw.standard_normal((count, 2, _TASTE), dtype=np.float32),
        draw.standard_normal((count, labels, _OWN), dtype=np.float32),
        draw.standard_normal((count, 2), dtype=np.float32),
    )


def draw_videos(draw: np.random.Generator, count: int, labels: int) -> Videos:
    """Draw videos: half of what one is comes from its topic, a quarter from its author."""
    makers = -(-count // VIDEOS_PER_AUTHOR)
    authors, topics = draw.integers(makers, size=count), draw.integers(TOPICS, size=count)
    of_topics, of_authors, alone = (draw_users(draw, many, labels) for many in (TOPICS, makers, count))
    side = Side(
        *(
            np.sqrt(0.5) * getattr(of_topics, name)[topics]
            + np.sqrt(0.25) * getattr(of_authors, name)[authors]
            + np.sqrt(0.25) * getattr(alone, name)
            for name in ("tastes", "own", "level")
        )
    )
    seconds = np.exp(3.2 + 0.6 * draw.standard_normal(count))
    popularity = np.exp(draw.standard_normal(count))
    reach = np.cumsum(popularity) / popularity.sum()
    reach[-1] = 1.0
    return Videos(side, authors, topics, seconds, reach)


def find_law(
    draw: np.random.Generator,
    videos: Videos,
    labels: Sequence[str],
    *,
    relatedness: float,
    conflict: float,
    heterogeneity: float,
) -> Law:
    """Return the law whose labels have the rates 0.4, …, 0.4 · 0.02^heterogeneity, evenly by logarithm."""
    shares = np.linspace(0, heterogeneity, len(labels))
    rates = _COMMONEST * (_RAREST / _COMMONEST) ** shares
    law = Law(tuple(labels), relatedness, conflict, (0.0,) * len(labels))
    users = draw_users(draw, _SAMPLE, len(labels))
    met = draw_met(draw, videos, _SAMPLE)
    logits = logits_of(users, videos, met, law)
    low, high = np.full(len(labels), -20.0), np.full(len(labels), 20.0)
    for _ in range(60):
        middle = (low + high) / 2
        above = (1 / (1 + np.exp(-(logits + middle)))).mean(axis=0) > rates
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    return Law(tuple(labels), relatedness, conflict, tuple(((low + high) / 2).tolist()))


def draw_met(draw: np.random.Generator, videos: Videos, views: int) -> Int[np.ndarray, " views"]:
    """Draw the videos of views, by their popularity alone."""
    met: Int[np.ndarray, " views"] = np.searchsorted(videos.reach, draw.random(views), side="right")
    return met


def logits_of(
    users: Side, videos: Videos, met: Int[np.ndarray, " views"], law: Law
) -> Float[np.ndarray, "views labels"]:
    """Return the logit of each label of each view.

    With z and x what a user and a video are, ρ the relatedness, w the watching and e the engaging taste,

        a_w = z_wᵀx_w / √3,    a_e = ρ a_w + √(1 - ρ²) z_eᵀx_e / √3,
        logit_k = b_k + 1.3 (√0.7 a + √0.3 own_k) + 0.6 quality + 0.7 tendency - 0.3 length,

    where quality and tendency of engagement are related to those of watching as the tastes are, and length,
    the standardised logarithm of the seconds, counts for watching alone.

    Args:
        users: of each view.
        videos: all.
        met: the video of each view.
        law: the rest.
    """
    seen = videos.side.of(met)
    affinity = np.einsum("vkt,vkt->vk", users.tastes, seen.tastes) / np.sqrt(_TASTE)
    own = np.einsum("vlo,vlo->vl", users.own, seen.own) / np.sqrt(_OWN)
    kind = law.engages.astype(int)
    length = (np.log(videos.seconds[met]) - 3.2) / 0.6
    logits: Float[np.ndarray, "views labels"] = (
        np.array(law.intercepts)
        + _SIGNAL * np.sqrt(1 - _OWN_SHARE) * _related(affinity, law.relatedness)[:, kind]
        + _SIGNAL * np.sqrt(_OWN_SHARE) * own
        + _QUALITY * _related(seen.level, law.relatedness)[:, kind]
        + _TENDENCY * _related(users.level, law.relatedness)[:, kind]
        - _LENGTH * length[:, None] * (kind == 0)
    )
    return logits


def draw_labels(
    draw: np.random.Generator, probabilities: Float[np.ndarray, "views labels"], law: Law
) -> Bool[np.ndarray, "views labels"]:
    """Draw labels with these probabilities whose luck is correlated.

        y_k = 1 where Φ(s_k √κ g + √(1 - κ) e_k) < p_k,        s = 1 for watching, -1 for engaging

    with g of the view, e of the view and label, both standard normal, and κ the conflict. So the labels of
    one kind tend to happen together and those of two kinds instead of each other, by more than their
    probabilities say: what one label's gradient takes for a reason speaks against the other kind.
    """
    views, labels = probabilities.shape
    common = draw.standard_normal((views, 1)) * np.where(law.engages, -1.0, 1.0)
    alone = draw.standard_normal((views, labels))
    luck = np.sqrt(law.conflict) * common + np.sqrt(1 - law.conflict) * alone
    happened: Bool[np.ndarray, "views labels"] = (
        torch.special.ndtr(torch.from_numpy(luck)).numpy() < probabilities
    )
    return happened


def _related(kinds: Float[np.ndarray, "views 2"], relatedness: float) -> Float[np.ndarray, "views 2"]:
    """Return the first kind, and the second as far as it is not related to the first."""
    first, second = kinds.T
    return np.stack((first, relatedness * first + np.sqrt(1 - relatedness**2) * second), axis=1)
