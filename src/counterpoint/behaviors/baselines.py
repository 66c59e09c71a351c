"""Floors: what ranking by chance, by sales or by what is bought together reaches for the very same users."""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from counterpoint.behaviors.data.store import Interactions
from counterpoint.behaviors.ranking import Scorer, listed


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
