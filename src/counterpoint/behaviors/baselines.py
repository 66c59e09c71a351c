"""Rivals on the very same users: chance, sales, what is bought together, and the truth of simulated data."""

from collections.abc import Iterable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from counterpoint.behaviors.data.store import Interactions, Store
from counterpoint.behaviors.data.truth import TRUTH, Truth
from counterpoint.behaviors.ranking import Scorer, listed

NEVER = -1e30
"""The score of a pair that cannot be among those held out; finite, as scores should be."""


def floors(bought: Interactions, items: int) -> dict[str, Scorer]:
    """Return the floors of a ranking by name.

    Args:
        bought: the target's training pairs.
        items: how many there are.
    """
    return {
        "random": RandomScorer(items),
        "most bought": MostBought(bought, items),
        "bought together": BoughtTogether(bought, items),
    }


class RandomScorer:
    """Chance: each user has an order of the items of one's own, whatever block the user is in.

    Args:
        items: how many there are.
        seed: of all orders.
    """

    def __init__(self, items: int, *, seed: int = 0) -> None:
        self._items, self._seed = items, seed

    def scores(self, users: Int[np.ndarray, " block"]) -> Float[Tensor, "block items"]:
        """Draw a score for every item from the seed and the user."""
        drawn = [
            np.random.default_rng((self._seed, user)).random(self._items, dtype=np.float32)
            for user in users.tolist()
        ]
        return torch.from_numpy(np.stack(drawn))


class MostBought:
    """How many users bought an item in training, the same for every user.

    Args:
        bought: the training pairs.
        items: how many there are.
    """

    def __init__(self, bought: Interactions, items: int) -> None:
        self._buyers = torch.from_numpy(np.bincount(bought.items, minlength=items)).float()

    def scores(self, users: Int[np.ndarray, " block"]) -> Float[Tensor, "block items"]:
        """Return the numbers of buyers."""
        return self._buyers.repeat(len(users), 1)


class BoughtTogether:
    """How often an item was bought by those who bought what the user bought, in training.

    With R the matrix of users and items that is 1 where a user bought an item, a user's scores are

        R_u RᵀR,        the sum over the user's items j of how many users bought both j and the item.

    It is computed from the left: R_u Rᵀ counts the items that each other user shares with this one. So only
    pairs that exist are visited, and no matrix of items by items is made.

    Args:
        bought: the training pairs.
        items: how many there are.
    """

    def __init__(self, bought: Interactions, items: int) -> None:
        self._bought, self._items = bought, items
        # The transposed matrix: an item's buyers in the place of a user's items.
        self._buyers = Interactions.of_pairs(bought.items, bought.users(), items)

    def scores(self, users: Int[np.ndarray, " block"]) -> Float[Tensor, "block items"]:
        """Count, one user after another: neighbours, then what they bought."""
        scores = np.empty((len(users), self._items), dtype=np.float32)
        for place, user in enumerate(users.tolist()):
            sharers, _ = listed(self._buyers, self._bought.of(user))
            neighbours, shared = np.unique(sharers, return_counts=True)
            items, neighbour = listed(self._bought, neighbours)
            scores[place] = np.bincount(items, weights=shared[neighbour], minlength=self._items)
        return torch.from_numpy(scores)


def true_scorer(store: Store) -> "TrueScorer | None":
    """Return what ranks a store's items as the truth would; nothing where the truth is not known."""
    if not (store.path / TRUTH).is_dir():
        return None
    return TrueScorer(store)


class TrueScorer:
    """Ranks by the probability of being held out, given the truth and all that training holds.

    Who knows the rates but not the log would rank by P(u buys i) = 1 - exp(-λ). Training tells more. Since
    all behaviours of the pairs held out are removed from it, a pair with some other behaviour in training is
    not held out. A pair without any was either held out, or neither bought nor met in any other way. With μ
    the expected number of visits that log another behaviour but no purchase, its odds are proportional to

        (1 - e^-λ) / (e^-λ · e^-μ),        and the score is        log(e^λ - 1) + μ.

    This is the best ranking where pairs are held out at random; where each user's last one is, it is as good
    as the best unless many pairs are bought several times.

    Args:
        store: prepared from simulated data, with the truth beside it.

    Raises:
        CounterpointError: the truth is incomplete.
    """

    def __init__(self, store: Store) -> None:
        self._truth = Truth(store.path / TRUTH)
        self._target, *others = store.behaviours
        self._others = tuple(others)
        self._known = [store.interactions("train", name) for name in others]
        self._users, self._items = _numbers(store.user_ids), _numbers(store.item_ids)

    def scores(self, users: Int[np.ndarray, " block"]) -> Float[Tensor, "block items"]:
        """Score every item of the store for a block of its users; the higher, the likelier held out."""
        rates = self._truth.rates(self._users[users])
        bought = rates.expected(self._target, self._truth.law)[:, self._items].astype(np.float64)
        met = rates.expected_without(self._target, self._others, self._truth.law)[:, self._items]
        scores = np.log(np.expm1(np.maximum(bought, 1e-30))) + met
        for known in self._known:
            for row, user in enumerate(users.tolist()):
                scores[row, known.of(user)] = NEVER
        return torch.from_numpy(scores.astype(np.float32))


def _numbers(ids: Iterable[str]) -> Int[np.ndarray, " ids"]:
    """The numbers of ids such as u00012."""
    return np.array([int(name[1:]) for name in ids], dtype=np.int64)
