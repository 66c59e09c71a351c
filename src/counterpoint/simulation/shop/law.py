"""How simulated users shop is drawn, by the law that `behaviors.data.truth` states."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from counterpoint.behaviors.data.truth import (
    CLICKED,
    ERRANDS,
    SLOPES,
    THEMES,
    Items,
    Law,
    Pairs,
    Users,
    rates,
    sigmoid,
)

BEHAVIOURS = ("click", "favourite", "cart", "buy")
# Of a page's users everything is drawn together; a log of more users begins with the log of fewer.
PAGE = 32
CALIBRATION_PAGES = 32
ZIPF, ACTIVITY = 0.5, 0.7
# For each pair bought, about 4.4 are clicked, 0.6 carted and 0.3 favourites among the heavy buyers that
# filters leave: paper 4, table 5, has 4.4, 0.6 and 0.2 in UserBehavior-2017.
PER_ERRAND = {"favourite": 0.16, "cart": 0.32, "buy": 0.53}
# Half of the purchases come within twenty minutes of the visit, one in six after two and a half hours.
HALF_BOUGHT, BUYING_SPREAD = 1200.0, 2.0
DAY = 86_400


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
        too_low = sigmoid(middle + slope * affinity).mean() < wanted
        low, high = (middle, high) if too_low else (low, middle)
    return (low + high) / 2


def _unit(rows: Float[np.ndarray, "rows columns"]) -> Float[np.ndarray, "rows columns"]:
    unit: Float[np.ndarray, "rows columns"] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit
