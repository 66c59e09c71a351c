"""The truth beside a simulated log, and the best ranking that it allows."""

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from counterpoint.errors import CounterpointError
from counterpoint.simulation.shop.law import Items, Law, Rates, Users, rates
from counterpoint.simulation.shop.log import TRUTH
from counterpoint.storage.files import read_json

if TYPE_CHECKING:
    from counterpoint.behaviors.data.store import Store

# The score of a pair that cannot be among those held out; finite, as scores should be.
NEVER = -1e30


class Truth:
    """The truth of a simulated log: rates of everything for any users, with all items.

    Args:
        folder: ``truth`` in the folder of the simulation, or its copy in a prepared store.

    Raises:
        CounterpointError: it is not there, or incomplete.
    """

    def __init__(self, folder: Path) -> None:
        self.law = Law(**read_json(folder / "law.json"))
        self._items = Items.of_array(np.array(_load(folder / "items.npy")))
        self._users = _load(folder / "users.npy")

    def rates(self, users: Int[np.ndarray, " block"]) -> Rates:
        """How many strolls and errands the users make to each item, on average."""
        return rates(Users.of_array(np.array(self._users[users])), self._items, self.law)

    def probability(
        self, users: Int[np.ndarray, " block"], behaviour: str = "buy"
    ) -> Float[np.ndarray, "block items"]:
        """The probability that the log holds the behaviour for each of the users with each item.

        P(u buys i) = 1 - exp(-λ_ui), λ being the expected number of purchases.
        """
        probability: Float[np.ndarray, "block items"] = -np.expm1(
            -self.rates(users).expected(behaviour, self.law)
        )
        return probability


def copy_truth(data: Path, store: Path) -> bool:
    """Copy the truth of simulated data into a store being prepared; whether the data is simulated.

    Args:
        data: the folder with the log.
        store: the folder of the store; its ``truth`` appears where the data has one.
    """
    described = data / "simulation.json"
    if not (described.is_file() and read_json(described).get("simulated")):
        return False
    if (data / TRUTH).is_dir():
        shutil.copytree(data / TRUTH, store / TRUTH, dirs_exist_ok=True)
    return True


def true_scorer(store: "Store") -> "TrueScorer | None":
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

    def __init__(self, store: "Store") -> None:
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


def _numbers(ids: Iterable[Any]) -> Int[np.ndarray, " ids"]:
    """The numbers of ids such as u00012."""
    return np.array([int(name[1:]) for name in ids], dtype=np.int64)


def _load(file: Path) -> Float[np.ndarray, "rows columns"]:
    try:
        array: Float[np.ndarray, "rows columns"] = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise CounterpointError(f"{file}: cannot be read ({error}); simulate the data again.") from error
    return array
