"""How simulated users shop, with the rates at which they do.

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

from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
from jaxtyping import Float, Int

BEHAVIOURS = ("click", "favourite", "cart", "buy")
THEMES = 12
# Of a page's users everything is drawn together; a log of more users begins with the log of fewer.
PAGE = 32
CALIBRATION_PAGES = 32
TASTE, ZIPF, ACTIVITY = 1.5, 0.5, 0.7
ERRANDS, CLICKED = 0.3, 0.85
# For each pair bought, about 4.4 are clicked, 0.6 carted and 0.3 favourites among the heavy buyers that
# filters leave: paper 4, table 5, has 4.4, 0.6 and 0.2 in UserBehavior-2017.
PER_ERRAND = {"favourite": 0.16, "cart": 0.32, "buy": 0.53}
SLOPES = {"favourite": 1.0, "cart": 1.5, "buy": 1.5}
# Half of the purchases come within twenty minutes of the visit, one in six after two and a half hours.
HALF_BOUGHT, BUYING_SPREAD = 1200.0, 2.0
DAY = 86_400

Pairs = Float[np.ndarray, "users items"]


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
        return _sigmoid(self.bases[behaviour] + SLOPES[behaviour] * affinity)


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


class Log(NamedTuple):
    """What was logged, by user and time: seconds since the first day began; behaviours by number."""

    user: Int[np.ndarray, " rows"]
    item: Int[np.ndarray, " rows"]
    behaviour: Int[np.ndarray, " rows"]
    time: Int[np.ndarray, " rows"]


def draw_items(rng: np.random.Generator, count: int) -> Items:
    """Draw items; which of them are popular has nothing to do with their themes."""
    themes, idle_themes = rng.dirichlet(np.full(THEMES, 0.3), (2, count))
    popularity, idle = (-ZIPF * np.log1p(rng.permutation(count)) for _ in range(2))
    return Items.of_array(Items(_unit(themes), _unit(idle_themes), popularity, idle).array())


def draw_users(rng: np.random.Generator, visits: float) -> Users:
    """Draw a page of users, who make so many visits on average, the number of each being lognormal."""
    taste, idle_taste = rng.standard_normal((2, PAGE, THEMES))
    activity = np.exp(ACTIVITY * rng.standard_normal(PAGE) - ACTIVITY**2 / 2)
    return Users.of_array(Users(taste, idle_taste, visits * activity).array())


def visits_for(interactions: float) -> float:
    """The number of visits that log so many interactions on average."""
    return interactions / (1 - ERRANDS + ERRANDS * (CLICKED + sum(PER_ERRAND.values())))


def find_law(rng: np.random.Generator, items: Items, click_relevance: float) -> Law:
    """Find the bases with which errands log as many favourites, carts and buys as wanted."""
    undecided = Law(click_relevance, {})
    met = []
    for _ in range(CALIBRATION_PAGES):
        page = rates(draw_users(rng, 1.0), items, undecided)
        # The same number for all: how often users come is independent of their taste.
        met.append(page.affinity[_draw_visits(rng, page.errands, np.full(PAGE, 64))])
    affinity = np.concatenate(met)
    return Law(
        click_relevance, {name: _base(affinity, SLOPES[name], PER_ERRAND[name]) for name in PER_ERRAND}
    )


def rates(users: Users, items: Items, law: Law) -> Rates:
    """How many strolls and errands each user makes to each item, on average."""
    affinity = users.taste @ items.themes.T
    wish = items.popularity + TASTE * affinity
    whim = items.idle_popularity + TASTE * (users.idle_taste @ items.idle_themes.T)
    whim *= np.sqrt(1 - law.click_relevance**2)
    whim += law.click_relevance * wish
    visits = users.visits[:, None]
    return Rates((1 - ERRANDS) * visits * _softmax(whim), ERRANDS * visits * _softmax(wish), affinity)


def draw_log(rng: np.random.Generator, users: Users, items: Items, law: Law, days: int) -> Log:
    """Draw everything that a page of users leaves in the log."""
    page = rates(users, items, law)
    strolls = _draw_visits(rng, page.strolls, rng.poisson((1 - ERRANDS) * users.visits))
    errands = _draw_visits(rng, page.errands, rng.poisson(ERRANDS * users.visits))
    affinity = page.affinity[errands]
    moment = rng.uniform(0, days * DAY, len(affinity))
    parts = [(*strolls, rng.uniform(0, days * DAY, len(strolls[0])), "click")]
    for name in BEHAVIOURS:
        logged = rng.random(len(affinity)) < law.logged_by_errand(name, affinity)
        time = _later(rng, moment[logged], _delay(rng, name, logged.sum()), days * DAY)
        parts.append((errands[0][logged], errands[1][logged], time, name))
    user, item = (np.concatenate([part[column] for part in parts]) for column in (0, 1))
    time = np.concatenate([part[2] for part in parts]).astype(np.int64)
    behaviour = np.repeat([BEHAVIOURS.index(part[3]) for part in parts], [len(part[0]) for part in parts])
    order = np.lexsort((behaviour, item, time, user))
    return Log(user[order], item[order], behaviour[order], time[order])


def _delay(rng: np.random.Generator, behaviour: str, count: int) -> Float[np.ndarray, " rows"]:
    """Seconds from the beginning of a visit to a behaviour."""
    if behaviour == "buy":
        return HALF_BOUGHT * np.exp(BUYING_SPREAD * rng.standard_normal(count))
    return np.zeros(count) if behaviour == "click" else rng.uniform(5, 300, count)


def _later(
    rng: np.random.Generator,
    moment: Float[np.ndarray, " rows"],
    delay: Float[np.ndarray, " rows"],
    end: float,
) -> Float[np.ndarray, " rows"]:
    """Add delays; what would come after the end comes between then and the end, for the log to be whole."""
    return np.where(moment + delay < end, moment + delay, moment + (end - moment) * rng.random(len(moment)))


def _draw_visits(
    rng: np.random.Generator, weights: Pairs, visits: Int[np.ndarray, " users"]
) -> tuple[Int[np.ndarray, " visits"], Int[np.ndarray, " visits"]]:
    """Draw so many items for each user in proportion to the weights: users and items of all visits."""
    cumulative = np.cumsum(weights, axis=1, dtype=np.float64)
    cumulative /= cumulative[:, -1:]
    # With row numbers added, the rows are one ascending sequence and one search serves all of them.
    user = np.repeat(np.arange(len(visits)), visits)
    places = (cumulative + np.arange(len(visits))[:, None]).ravel()
    place = np.searchsorted(places, user + rng.random(len(user)), side="right")
    return user, np.minimum(place - user * weights.shape[1], weights.shape[1] - 1)


def _base(affinity: Float[np.ndarray, " visits"], slope: float, wanted: float) -> float:
    """Find the base with which the mean of σ(base + slope · affinity) is the one wanted."""
    low, high = -50.0, 50.0
    for _ in range(50):
        middle = (low + high) / 2
        too_low = _sigmoid(middle + slope * affinity).mean() < wanted
        low, high = (middle, high) if too_low else (low, middle)
    return (low + high) / 2


def _sigmoid(odds: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    probability: Float[np.ndarray, "*shape"] = 1 / (1 + np.exp(-odds))
    return probability


def _softmax(utility: Pairs) -> Pairs:
    weights = np.exp(utility - utility.max(axis=1, keepdims=True))
    shares: Pairs = weights / weights.sum(axis=1, keepdims=True)
    return shares


def _unit(rows: Float[np.ndarray, "rows columns"]) -> Float[np.ndarray, "rows columns"]:
    unit: Float[np.ndarray, "rows columns"] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit
