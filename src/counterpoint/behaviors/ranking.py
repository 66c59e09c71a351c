"""The first items of each user, by any scores: ties broken by chance, what is masked left out."""

from typing import Protocol

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from counterpoint.behaviors.data.store import Interactions
from counterpoint.errors import CounterpointError
from counterpoint.progress import Progress, silent

TIES_SEED = 0
_USERS = 32  # ranked at once: their scores, their order and their tower's layer stay small
_MASKED = torch.iinfo(torch.int64).min


class Scorer(Protocol):
    """What gives every item a score for a user."""

    def scores(self, users: Int[np.ndarray, " block"]) -> Float[Tensor, "block items"]:
        """Return the scores of all items, the higher the better; the caller may overwrite them."""


def top_items(
    scorer: Scorer,
    users: Int[np.ndarray, " users"],
    masked: Interactions,
    depth: int,
    *,
    progress: Progress = silent,
) -> tuple[Int[np.ndarray, "users depth"], Float[np.ndarray, "users depth"]]:
    """Return the best items of each user, best first, and their scores.

    Each item has a rank of its own in a random order, drawn from a fixed seed and the same for all users, and
    of two items with equal scores the one that is earlier in it comes first. So the same call gives the same
    lists, what a scorer cannot tell apart is ranked by chance, and an item's number means nothing.

    Args:
        scorer: gives the scores.
        users: rows, in the order of the answer.
        masked: pairs that are never returned.
        depth: how many items; where fewer are left, -1 and a score of NaN take their places.
        progress: told how many users are done.

    Raises:
        CounterpointError: a score is infinite or not a number.
    """
    items = np.full((len(users), depth), -1, dtype=np.int32)
    values = np.full((len(users), depth), np.nan, dtype=np.float32)
    ties: Tensor | None = None
    for start in range(0, len(users), _USERS):
        block = users[start : start + _USERS]
        scores = scorer.scores(block)
        if ties is None:
            order = np.random.default_rng(TIES_SEED).permutation(scores.shape[1])
            ties = torch.from_numpy(order).to(scores.device)
        keys = _keys(scores, ties, block)
        keys[index_of(masked, block, scores.device)] = _MASKED
        found = keys.topk(min(depth, keys.shape[1]), dim=1)
        left = (found.values != _MASKED).cpu().numpy()
        place = slice(start, start + len(block)), slice(0, left.shape[1])
        items[place] = np.where(left, found.indices.cpu().numpy(), -1)
        values[place] = np.where(left, scores.gather(1, found.indices).cpu().numpy(), np.nan)
        progress("ranking items", start + len(block), len(users))
    return items, values


def listed(
    pairs: Interactions, users: Int[np.ndarray, " block"]
) -> tuple[Int[np.ndarray, " pairs"], Int[np.ndarray, " pairs"]]:
    """Return the items of some users one after another, and whose they are: the user's place among them."""
    starts = np.asarray(pairs.offsets[users])
    lengths = np.asarray(pairs.offsets[users + 1]) - starts
    place = np.repeat(np.arange(len(users)), lengths)
    before = np.cumsum(lengths) - lengths
    return np.asarray(pairs.items[np.arange(len(place)) + (starts - before)[place]]), place


def index_of(
    pairs: Interactions, users: Int[np.ndarray, " block"], device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return the pairs of some users as an index of their matrix of scores."""
    items, place = listed(pairs, users)
    return torch.from_numpy(place).to(device), torch.from_numpy(items).long().to(device)


def _keys(
    scores: Float[Tensor, "block items"], ties: Int[Tensor, " items"], users: Int[np.ndarray, " block"]
) -> Int[Tensor, "block items"]:
    """Return whole numbers in the order of the scores, with the ties' order in their lower half.

    The bits of a positive float are in the order of its value, those of a negative one in the opposite order.
    """
    low, high = (bound.cpu() for bound in scores.aminmax(dim=1))
    broken = ~(low.isfinite() & high.isfinite())
    if broken.any():
        user = int(users[int(broken.nonzero()[0])])
        raise CounterpointError(
            f"The scores of user number {user} are not all finite; check that training did not diverge "
            "before ranking with this model."
        )
    # Adding zero makes the negative zero a positive one.
    bits = (scores + 0.0).view(torch.int32)
    ordered = ((bits >> 31) & torch.iinfo(torch.int32).max).bitwise_xor_(bits)
    return ordered.long().bitwise_left_shift_(32).bitwise_or_(ties)
