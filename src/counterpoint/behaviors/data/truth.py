"""The truth beside a simulated log: its files, and the law by which simulated users shop.

`users.npy` has a row for each user (taste, idle taste, expected visits), `items.npy` one for each item
(themes, idle themes, logarithms of popularity and of idle popularity), `law.json` the rest; row 12 belongs to
the user or item whose number is 12.

A user u has a taste and an idle taste, an item i themes and idle themes (mixtures, of length 1) and two
popularities. What u is looking for, and what catches u's eye, is

    wish_ui = popularity_i + 1.5 · taste_u · themes_i
    whim_ui = idle popularity_i + 1.5 · idle taste_u · idle themes_i.

Users make a Poisson number of visits, each to one item; three in ten are errands, the others strolls. An
errand goes to item i with a probability proportional to exp(wish_ui), a stroll with one proportional to

    exp(r · wish_ui + √(1 - r²) · whim_ui),        r = click relevance.

So at r = 1 all clicks come from the taste that purchases come from, and at r = 0 those of strolls tell
nothing about it. A stroll logs a click. An errand logs, each independently of the others, a click with
probability 0.85 (some come from outside of what is logged) and a favourite, a cart and a buy with

    σ(base + slope · taste_u · themes_i).

Counts of a split Poisson number are independent, hence everything is known exactly: u buys i at least once
with probability 1 - exp(-errands_u · softmax(wish_u)_i · σ(…)), independently of all other pairs.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
from jaxtyping import Float, Int

from counterpoint.errors import CounterpointError
from counterpoint.storage.files import read_json

TRUTH = "truth"
"""The folder, beside the log and in a prepared store."""

THEMES = 12
TASTE = 1.5
ERRANDS, CLICKED = 0.3, 0.85
SLOPES = {"favourite": 1.0, "cart": 1.5, "buy": 1.5}

Pairs = Float[np.ndarray, "users items"]


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

    def rates(self, users: Int[np.ndarray, " block"]) -> "Rates":
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


class Items(NamedTuple):
    """Items: their themes, and the logarithms of their Zipf-like popularities."""

    themes: Float[np.ndarray, "items themes"]
    idle_themes: Float[np.ndarray, "items themes"]
    popularity: Float[np.ndarray, " items"]
    idle_popularity: Float[np.ndarray, " items"]

    def array(self) -> Float[np.ndarray, "items 2*themes+2"]:
        """Everything side by side, in single precision."""
        return np.column_stack(self).astype(np.float32)

    @classmethod
    def of_array(cls, array: Float[np.ndarray, "items columns"]) -> Self:
        """Take an array apart again."""
        return cls(array[:, :THEMES], array[:, THEMES : 2 * THEMES], array[:, -2], array[:, -1])


class Users(NamedTuple):
    """Users: their tastes, and how many visits to expect of them."""

    taste: Float[np.ndarray, "users themes"]
    idle_taste: Float[np.ndarray, "users themes"]
    visits: Float[np.ndarray, " users"]

    def array(self) -> Float[np.ndarray, "users 2*themes+1"]:
        """Everything side by side, in single precision."""
        return np.column_stack(self).astype(np.float32)

    @classmethod
    def of_array(cls, array: Float[np.ndarray, "users columns"]) -> Self:
        """Take an array apart again."""
        return cls(array[:, :THEMES], array[:, THEMES : 2 * THEMES], array[:, -1])


@dataclass(frozen=True)
class Law:
    """What of the law one chooses, and the bases that give the volumes wanted.

    Attributes:
        click_relevance: from 0 (strolls have reasons of their own) to 1 (those of the purchases).
        bases: of favourite, cart and buy: the log odds on an errand where taste is indifferent.
    """

    click_relevance: float
    bases: dict[str, float]

    def logged_by_stroll(self, behaviour: str) -> float:
        """The probability that a stroll logs a behaviour."""
        return float(behaviour == "click")

    def logged_by_errand(
        self, behaviour: str, affinity: Float[np.ndarray, "*pairs"]
    ) -> Float[np.ndarray, "*pairs"]:
        """The probability that an errand logs a behaviour."""
        if behaviour == "click":
            return np.full_like(affinity, CLICKED)
        return sigmoid(self.bases[behaviour] + SLOPES[behaviour] * affinity)


class Rates(NamedTuple):
    """The expected numbers of strolls and errands of users to items, and how much the items suit them."""

    strolls: Pairs
    errands: Pairs
    affinity: Pairs

    def expected(self, behaviour: str, law: Law) -> Pairs:
        """The expected number of times that the log holds a behaviour."""
        by_errand = law.logged_by_errand(behaviour, self.affinity)
        expected: Pairs = law.logged_by_stroll(behaviour) * self.strolls + by_errand * self.errands
        return expected

    def expected_without(self, missing: str, others: tuple[str, ...], law: Law) -> Pairs:
        """The expected number of visits that log some of ``others`` but not the one missing."""
        stroll = np.prod([1 - law.logged_by_stroll(name) for name in others])
        errand = np.ones_like(self.affinity)
        for name in others:
            errand *= 1 - law.logged_by_errand(name, self.affinity)
        strolls = (1 - law.logged_by_stroll(missing)) * (1 - stroll) * self.strolls
        expected: Pairs = strolls + (1 - law.logged_by_errand(missing, self.affinity)) * (1 - errand) * (
            self.errands
        )
        return expected


def rates(users: Users, items: Items, law: Law) -> Rates:
    """How many strolls and errands each user makes to each item, on average."""
    affinity = users.taste @ items.themes.T
    wish = items.popularity + TASTE * affinity
    whim = items.idle_popularity + TASTE * (users.idle_taste @ items.idle_themes.T)
    whim *= np.sqrt(1 - law.click_relevance**2)
    whim += law.click_relevance * wish
    visits = users.visits[:, None]
    return Rates((1 - ERRANDS) * visits * _softmax(whim), ERRANDS * visits * _softmax(wish), affinity)


def sigmoid(odds: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """Return the probability that has these log odds."""
    probability: Float[np.ndarray, "*shape"] = 1 / (1 + np.exp(-odds))
    return probability


def _softmax(utility: Pairs) -> Pairs:
    weights = np.exp(utility - utility.max(axis=1, keepdims=True))
    shares: Pairs = weights / weights.sum(axis=1, keepdims=True)
    return shares


def _load(file: Path) -> Float[np.ndarray, "rows columns"]:
    try:
        array: Float[np.ndarray, "rows columns"] = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise CounterpointError(f"{file}: cannot be read ({error}); simulate the data again.") from error
    return array
