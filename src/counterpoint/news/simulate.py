"""A simulated news site in MIND's files, with the true click probabilities beside them.

Real news logs may not be passed on, and nobody knows the best score they allow. Here every headline is made
up and every click is drawn from a known probability, so the best possible score is known too. A reader's
interest in an article of category c and subcategory s whose headline names the entity e first is

    interest = strength · (log(K · mix_c + 0.2) + 0.8 · [s favourite]) + 1.6 · [e favourite],

``mix`` being the reader's shares of the K categories, which drift from the first day to the last. Shown at
position j = 1, 2, … the article is clicked, independently of the others, with probability

    σ(-3.2 + 1.05 · interest + 0.5 · log(appeal · 2^(-age in days)) - 0.35 · log j),

appeal being lognormal. A site logs only impressions with both a click and a non-click; clicks are drawn given
that, and the probabilities written are the marginals of this conditional distribution.
"""

import json
import random
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from string import Formatter
from typing import NamedTuple

import numpy as np
import polars as pl
from jaxtyping import Bool, Float, Int

from counterpoint.errors import UsageError
from counterpoint.files import new_folder, write_json

# The training days run across the end of a month, so that times sorted as text come out in the wrong order.
START = datetime(2025, 9, 28)
EARLIER_DAYS = 10
EARLIER_SHARE = 0.4
LIVE_DAYS = 3
LONGEST_HISTORY = 400
COLD_SHARE = 0.08
IMPRESSIONS_PER_BLOCK = 4096
BASE, INTEREST, POPULARITY, POSITION = -3.2, 1.05, 0.5, 0.35
FAVOURITE_SUBCATEGORY, FAVOURITE_ENTITY = 0.8, 1.6
# Far outside what the default strength reaches; keeps every impression's chance of being logged above zero.
ODDS_RANGE = (-12.0, 2.0)
# How busy the site is, hour by hour from midnight.
BUSY = np.array([2, 1, 1, 1, 1, 2, 4, 7, 9, 8, 7, 7, 8, 7, 6, 6, 6, 7, 8, 9, 9, 8, 6, 4]) / 134


@dataclass(frozen=True)
class Simulation:
    """What was written: the folder, and how many articles, readers, impressions and clicks it holds."""

    folder: Path
    counts: dict[str, int]


@dataclass(frozen=True)
class _Parameters:
    readers: int
    articles: int
    seed: int
    days: int
    impressions_per_reader: float
    fewest_candidates: int
    most_candidates: int
    category_strength: float


def simulate(
    out: Path,
    *,
    readers: int = 2_000,
    articles: int = 1_000,
    seed: int = 0,
    days: int = 6,
    impressions_per_reader: float = 2.0,
    candidates: tuple[int, int] = (5, 40),
    category_strength: float = 1.0,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Simulation:
    """Write a simulated news site in MIND's format; the same arguments give the same bytes.

    ``OUT/train`` and ``OUT/dev`` (the last day) hold ``news.tsv`` and ``behaviors.tsv``; ``OUT/truth`` holds
    one Parquet file per split: ``impression``, and lists aligned with the candidates as written:
    ``probability`` (of the click, as logged), ``position_free`` (of a click had the article been shown first:
    its ranking is the best one for who does not know the positions) and ``position`` (from 1).
    Readers are made in blocks, so memory depends on the articles, not on the readers.

    Args:
        out: the folder to write; it appears only when it is complete.
        readers: readers, each with at least one impression; 8 % begin with an empty history.
        articles: articles, 40 % of them published in the ten days before the first.
        seed: of every random choice.
        days: days logged, the last being the dev split.
        impressions_per_reader: mean number of impressions over all days.
        candidates: fewest and most candidates of an impression; now and then fewer where few are live.
        category_strength: how much categories and subcategories drive clicks; 0: not at all.
        overwrite: replace ``out`` if something is there.
        progress: called with the readers done and the readers in all.

    Raises:
        UsageError: an option is too small, or ``out`` holds something already.
    """
    fewest, most = candidates
    _at_least("candidates (fewest)", fewest, 2)
    _at_least("candidates (most)", most, fewest)
    _at_least("readers", readers, 1)
    _at_least("days", days, 3)
    _at_least("articles", articles, max(60, 2 * fewest * days))
    _at_least("seed", seed, 0)
    _at_least("impressions_per_reader", impressions_per_reader, 1)
    _at_least("category_strength", category_strength, 0)
    if out.is_file() or (not overwrite and out.is_dir() and any(out.iterdir())):
        raise UsageError(f"{out}: something is there already; choose another folder or allow overwriting.")

    parameters = _Parameters(
        readers, articles, seed, days, impressions_per_reader, fewest, most, category_strength
    )
    with new_folder(out) as folder:
        for name in ("train", "dev", "truth"):
            (folder / name).mkdir()
        site = _write_articles(folder, parameters)
        counts = {"articles": articles, "readers": readers}
        counts |= _write_impressions(folder, site, parameters, progress)
        write_json(
            folder / "simulation.json",
            {"simulated": True, "parameters": asdict(parameters), "counts": counts},
        )
        (folder / "README.md").write_text(_readme(parameters), encoding="utf-8")
    return Simulation(out, counts)


def _at_least(option: str, value: float, smallest: float) -> None:
    if not value >= smallest:
        raise UsageError(f"{option} is {value}; give at least {smallest}.")


def _readme(parameters: _Parameters) -> str:
    settings = ", ".join(f"{name} {value}" for name, value in asdict(parameters).items())
    return (
        "# A simulated news site\n\n"
        "Everything in this folder is simulated: no article, entity, reader or click is real, and the "
        "Wikidata ids, all beginning with Q9000, belong to nobody. The files follow the format of the MIND "
        f"dataset: `train` holds all days but the last of {parameters.days}, `dev` the last, and `truth` the "
        f"probabilities the clicks were drawn from. Made by `counterpoint simulate news` with {settings}.\n"
    )


@dataclass(frozen=True)
class _Groups:
    """Things in groups, drawn within their group in proportion to a weight.

    Group g's weights are cumulated from g to g + 1, so that one binary search draws from any mix of groups.
    """

    members: Int[np.ndarray, " entries"]
    cumulative: Float[np.ndarray, " entries"]
    filled: Bool[np.ndarray, " groups"]

    def draw(self, rng: np.random.Generator, group: Int[np.ndarray, "*shape"]) -> Int[np.ndarray, "*shape"]:
        """Draw one member of each of the given groups, which must be filled."""
        place = np.searchsorted(self.cumulative, group + rng.random(group.shape), side="right")
        return self.members[np.minimum(place, len(self.members) - 1)]


def _groups(
    group: Int[np.ndarray, " entries"],
    members: Int[np.ndarray, " entries"],
    weights: Float[np.ndarray, " entries"],
    count: int,
) -> _Groups:
    order = np.argsort(group, kind="stable")
    group, members, weights = group[order], members[order], weights[order]
    total = np.bincount(group, weights, count)
    filled = total > 0
    filled_before: Int[np.ndarray, " groups"] = np.cumsum(filled) - filled
    cumulative = group + np.cumsum(weights / total[group]) - filled_before[group]
    last = np.append(group[1:] != group[:-1], True)
    cumulative[last] = group[last] + 1
    return _Groups(members, np.maximum.accumulate(cumulative), filled)


@dataclass(frozen=True)
class _Site:
    """What the clicks depend on; categories own their subcategories and entities as runs of equal length."""

    categories: int
    subcategories_each: int
    entities_each: int
    subcategory: Int[np.ndarray, " articles"]
    lead: Int[np.ndarray, " articles"]
    published: Float[np.ndarray, " articles"]
    appeal: Float[np.ndarray, " articles"]


def _write_articles(folder: Path, parameters: _Parameters) -> _Site:
    rng = np.random.default_rng([parameters.seed, 0])
    chance = random.Random(parameters.seed)
    categories = _categories(chance)
    each = len(categories[0].subcategories)
    names = [(category, name) for category in categories for name in category.subcategories]
    size = np.repeat(1 / (3 + np.arange(len(categories))), each)
    subcategory = rng.choice(len(names), parameters.articles, p=size / size.sum())
    published = rng.permutation(_publication(rng, parameters))
    lead = np.full(parameters.articles, -1)
    with (
        (folder / "train" / "news.tsv").open("w", encoding="utf-8", newline="\n") as train,
        (folder / "dev" / "news.tsv").open("w", encoding="utf-8", newline="\n") as dev,
    ):
        for index, which in enumerate(subcategory.tolist()):
            line, lead[index] = _article(chance, f"N{index + 1}", names[which], categories)
            dev.write(line)
            if published[index] < parameters.days - 1:
                train.write(line)
    return _Site(
        len(categories),
        each,
        sum(map(len, categories[0].entities.values())),
        subcategory,
        lead,
        published,
        rng.normal(size=parameters.articles),
    )


def _publication(rng: np.random.Generator, parameters: _Parameters) -> Float[np.ndarray, " articles"]:
    """Days since the start, spread evenly so that even a small site has live articles at every hour."""
    quantile = (np.arange(parameters.articles) + rng.random(parameters.articles)) / parameters.articles
    earlier = (quantile / EARLIER_SHARE - 1) * EARLIER_DAYS
    during = (quantile - EARLIER_SHARE) / (1 - EARLIER_SHARE) * parameters.days
    return np.where(quantile < EARLIER_SHARE, earlier, during)


class _Readers(NamedTuple):
    """Readers; ``mixes`` are their shares of the categories on the first and on the last day."""

    mixes: Float[np.ndarray, "2 readers categories"]
    subcategories: Int[np.ndarray, "readers favourites"]
    entities: Int[np.ndarray, "readers favourites"]


class _Clicks(NamedTuple):
    reader: Int[np.ndarray, " clicks"]
    article: Int[np.ndarray, " clicks"]
    time: Float[np.ndarray, " clicks"]


class _Impressions(NamedTuple):
    """Impressions, candidates in the order written and padded to the right; times in days since the start."""

    reader: Int[np.ndarray, " impressions"]
    time: Float[np.ndarray, " impressions"]
    size: Int[np.ndarray, " impressions"]
    candidate: Int[np.ndarray, "impressions candidates"]
    clicked: Bool[np.ndarray, "impressions candidates"]
    probability: Float[np.ndarray, "impressions candidates"]
    position_free: Float[np.ndarray, "impressions candidates"]
    position: Int[np.ndarray, "impressions candidates"]

    def of(self, rows: Bool[np.ndarray, " impressions"]) -> "_Impressions":
        return _Impressions(*(column[rows] for column in self))

    def clicks(self) -> _Clicks:
        row, place = np.nonzero(self.clicked)
        return _Clicks(self.reader[row], self.candidate[row, place], self.time[row])


class _Split:
    """A split being written: rows are appended by block, the truth is kept in parts and joined at the end."""

    def __init__(self, folder: Path, name: str) -> None:
        self._behaviors = folder / name / "behaviors.tsv"
        self._truth = folder / "truth" / f"{name}.parquet"
        self._parts: list[Path] = []
        self.impressions = self.clicks = 0

    def append(self, shown: _Impressions, first_reader: int, histories: list[str]) -> None:
        real = _real(shown.candidate.shape[1], shown.size)
        clicked = shown.clicked[real]
        labels = [
            f"N{article + 1}-{click:d}"
            for article, click in zip(shown.candidate[real].tolist(), clicked.tolist(), strict=True)
        ]
        ends = np.cumsum(shown.size).tolist()
        rows = zip(shown.reader.tolist(), shown.time.tolist(), pairwise([0, *ends]), strict=True)
        with self._behaviors.open("a", encoding="utf-8", newline="\n") as file:
            file.writelines(
                f"{number}\tU{first_reader + reader + 1}\t{_american(time)}\t{histories[reader]}\t"
                f"{' '.join(labels[start:end])}\n"
                for number, (reader, time, (start, end)) in enumerate(rows, self.impressions + 1)
            )
        numbers = np.arange(self.impressions + 1, self.impressions + len(shown.size) + 1, dtype=np.uint32)
        part = self._truth.with_suffix(f".{len(self._parts):06d}")
        pl.DataFrame(
            {
                "impression": np.repeat(numbers, shown.size),
                "probability": shown.probability[real].astype(np.float32),
                "position_free": shown.position_free[real].astype(np.float32),
                "position": shown.position[real].astype(np.uint16),
            }
        ).group_by("impression", maintain_order=True).all().write_parquet(part)
        self._parts.append(part)
        self.impressions += len(numbers)
        self.clicks += int(clicked.sum())

    def finish(self) -> None:
        pl.scan_parquet(self._parts).sink_parquet(self._truth, row_group_size=2**16)
        for part in self._parts:
            part.unlink()


def _write_impressions(
    folder: Path, site: _Site, parameters: _Parameters, progress: Callable[[int, int], None] | None
) -> dict[str, int]:
    front, past = _front_pages(site, parameters.days), _past(site)
    train, dev = _Split(folder, "train"), _Split(folder, "dev")
    cold = 0
    block = max(1, int(IMPRESSIONS_PER_BLOCK / parameters.impressions_per_reader))
    for first in range(0, parameters.readers, block):
        count = min(block, parameters.readers - first)
        rng = np.random.default_rng([parameters.seed, 1, first])
        readers = _readers(rng, site, count)
        earlier = _earlier_clicks(rng, site, past, readers, parameters.category_strength)
        shown = _impressions(rng, site, front, readers, parameters)
        is_dev = shown.time >= parameters.days - 1
        training = shown.of(~is_dev)
        train.append(training, first, _histories(count, earlier))
        dev.append(shown.of(is_dev), first, _histories(count, earlier, training.clicks()))
        cold += count - len(np.unique(earlier.reader))
        if progress:
            progress(first + count, parameters.readers)
    train.finish()
    dev.finish()
    return {
        "cold_readers": cold,
        "train_impressions": train.impressions,
        "train_clicks": train.clicks,
        "dev_impressions": dev.impressions,
        "dev_clicks": dev.clicks,
    }


def _front_pages(site: _Site, days: int) -> _Groups:
    """For each hour, the articles of the last days, weighted by freshness and the root of their appeal."""
    order = np.argsort(site.published, kind="stable")
    hours = np.arange(days * 24)
    first, last = np.searchsorted(site.published[order], np.stack((hours / 24 - LIVE_DAYS, hours / 24)))
    hour = np.repeat(hours, last - first)
    live = np.concatenate([order[start:stop] for start, stop in zip(first, last, strict=True)])
    weight = np.exp2(site.published[live] - hour / 24) * np.exp(site.appeal[live] / 2)
    return _groups(hour, live, weight, len(hours))


class _Past(NamedTuple):
    """The articles older than the first day, by subcategory and by the entity their title names first."""

    by_subcategory: _Groups
    by_entity: _Groups
    shares: Float[np.ndarray, " subcategories"]


def _past(site: _Site) -> _Past:
    subcategories = site.categories * site.subcategories_each
    old = np.flatnonzero(site.published < 0)
    named = old[site.lead[old] >= 0]
    weight = np.exp(site.appeal / 2)
    return _Past(
        _groups(site.subcategory[old], old, weight[old], subcategories),
        _groups(site.lead[named], named, weight[named], site.categories * site.entities_each),
        np.bincount(site.subcategory[old], weight[old], subcategories),
    )


def _readers(rng: np.random.Generator, site: _Site, count: int) -> _Readers:
    concentration = np.full(site.categories, 0.35)
    first, new = rng.dirichlet(concentration, (2, count))
    below = np.cumsum(first, axis=1)[:, None, :-1] <= rng.random((count, 6, 1))
    category = below.sum(axis=2)
    subcategories = category[:, :3] * site.subcategories_each + rng.integers(
        site.subcategories_each, size=(count, 3)
    )
    entities = category[:, 3:] * site.entities_each + rng.integers(site.entities_each, size=(count, 3))
    return _Readers(np.stack((first, 0.7 * first + 0.3 * new)), subcategories, entities)


def _liking(mix: Float[np.ndarray, "rows categories"]) -> Float[np.ndarray, "rows categories"]:
    liking: Float[np.ndarray, "rows categories"] = np.log(mix.shape[1] * mix + 0.2)
    return liking


def _earlier_clicks(
    rng: np.random.Generator, site: _Site, past: _Past, readers: _Readers, strength: float
) -> _Clicks:
    count = len(readers.entities)
    length = np.clip(np.rint(15 * np.exp(rng.normal(size=count))), 1, LONGEST_HISTORY).astype(int)
    length[rng.random(count) < COLD_SHARE] = 0
    reader = np.repeat(np.arange(count), length)

    liking = np.repeat(_liking(readers.mixes[0]), site.subcategories_each, axis=1)
    favourite = np.zeros_like(liking)
    np.put_along_axis(favourite, readers.subcategories, FAVOURITE_SUBCATEGORY, axis=1)
    weight = past.shares * np.exp(np.clip(INTEREST * strength * (liking + favourite), -30, 30))
    readers_of, subcategories = (index.ravel() for index in np.indices(weight.shape))
    subcategory = _groups(readers_of, subcategories, weight.ravel(), count).draw(rng, reader)
    article = past.by_subcategory.draw(rng, subcategory)

    entity = readers.entities[reader, rng.integers(readers.entities.shape[1], size=len(reader))]
    named = past.by_entity.filled[entity] & (rng.random(len(reader)) < 0.2)
    article[named] = past.by_entity.draw(rng, entity[named])
    return _Clicks(reader, article, site.published[article] * rng.random(len(reader)))


def _histories(readers: int, *clicks: _Clicks) -> list[str]:
    """Each reader's articles, oldest first, as MIND writes them."""
    reader, article, time = (np.concatenate(columns) for columns in zip(*clicks, strict=True))
    order = np.lexsort((time, reader))
    names = [f"N{index + 1}" for index in article[order].tolist()]
    ends = np.cumsum(np.bincount(reader, minlength=readers)).tolist()
    return [" ".join(names[start:end]) for start, end in pairwise([0, *ends])]


def _impressions(
    rng: np.random.Generator, site: _Site, front: _Groups, readers: _Readers, parameters: _Parameters
) -> _Impressions:
    count = len(readers.entities)
    reader = np.repeat(np.arange(count), 1 + rng.poisson(parameters.impressions_per_reader - 1, count))
    hour = rng.integers(parameters.days, size=len(reader)) * 24 + rng.choice(24, len(reader), p=BUSY)
    time = (hour * 3600 + rng.integers(3600, size=len(reader))) / 86_400
    fewest, most = parameters.fewest_candidates, parameters.most_candidates
    size = np.minimum(fewest - 1 + rng.geometric(4 / (most - fewest + 4), len(reader)), most)
    candidate, size = _candidates(rng, front, hour, size, most)

    drift = time / parameters.days
    interest = _interest(site, readers, reader, drift, candidate, parameters.category_strength)
    popularity = site.appeal[candidate] + np.log(2) * (site.published[candidate] - time[:, None])
    odds = BASE + INTEREST * interest + POPULARITY * popularity
    position = np.broadcast_to(np.arange(1, most + 1), candidate.shape)
    real = _real(most, size)
    probability = np.where(real, _sigmoid(odds - POSITION * np.log(position)), 0)
    none = (1 - probability).prod(axis=1, keepdims=True)
    every = np.where(real, probability, 1).prod(axis=1, keepdims=True)
    columns = (
        candidate,
        _click(rng, probability, size),
        (probability - every) / (1 - none - every),
        _sigmoid(odds),
        position,
    )
    shuffled = np.argsort(np.where(real, rng.random(real.shape), 2), axis=1)
    return _Impressions(
        reader, time, size, *(np.take_along_axis(column, shuffled, axis=1) for column in columns)
    )


def _candidates(
    rng: np.random.Generator,
    front: _Groups,
    hour: Int[np.ndarray, " impressions"],
    size: Int[np.ndarray, " impressions"],
    most: int,
) -> tuple[Int[np.ndarray, "impressions positions"], Int[np.ndarray, " impressions"]]:
    """The first ``size`` different articles of a longer draw (or fewer, but two at least), and how many."""
    drawn = front.draw(rng, np.broadcast_to(hour[:, None], (len(hour), most + most // 2 + 8)))
    order = np.argsort(drawn, axis=1, kind="stable")
    ordered = np.take_along_axis(drawn, order, axis=1)
    new = np.ones(drawn.shape, bool)
    np.put_along_axis(new, order[:, 1:], ordered[:, 1:] != ordered[:, :-1], axis=1)
    place = np.cumsum(new, axis=1) - 1
    row, column = np.nonzero(new & (place < size[:, None]))
    candidate = np.zeros((len(drawn), most), int)
    candidate[row, place[row, column]] = drawn[row, column]
    size = np.minimum(size, place[:, -1] + 1)
    single = size < 2
    if single.any():
        again = np.full(single.sum(), 2)
        candidate[single], size[single] = _candidates(rng, front, hour[single], again, most)
    return candidate, size


def _interest(
    site: _Site,
    readers: _Readers,
    reader: Int[np.ndarray, " impressions"],
    drift: Float[np.ndarray, " impressions"],
    candidate: Int[np.ndarray, "impressions positions"],
    strength: float,
) -> Float[np.ndarray, "impressions positions"]:
    first, last = readers.mixes[:, reader]
    liking = _liking(first + drift[:, None] * (last - first))
    subcategory, lead = site.subcategory[candidate], site.lead[candidate]
    topical = np.take_along_axis(liking, subcategory // site.subcategories_each, axis=1)
    topical += FAVOURITE_SUBCATEGORY * _among(subcategory, readers.subcategories[reader])
    return strength * topical + FAVOURITE_ENTITY * _among(lead, readers.entities[reader])


def _among(
    values: Int[np.ndarray, "rows columns"], favourites: Int[np.ndarray, "rows favourites"]
) -> Bool[np.ndarray, "rows columns"]:
    found: Bool[np.ndarray, "rows columns"] = (values[:, :, None] == favourites[:, None, :]).any(axis=2)
    return found


def _click(
    rng: np.random.Generator,
    probability: Float[np.ndarray, "impressions positions"],
    size: Int[np.ndarray, " impressions"],
) -> Bool[np.ndarray, "impressions positions"]:
    """Draw clicks given that there is one: its first from the truncated distribution, the later ones freely.

    The few rows clicked throughout are drawn again.
    """
    some = 1 - np.cumprod(1 - probability, axis=1)
    first = (some <= rng.random((len(some), 1)) * some[:, -1:]).sum(axis=1, keepdims=True)
    column = np.arange(probability.shape[1])
    clicked: Bool[np.ndarray, "impressions positions"] = (column == first) | (
        (column > first) & (rng.random(probability.shape) < probability)
    )
    every = clicked.sum(axis=1) == size
    if every.any():
        clicked[every] = _click(rng, probability[every], size[every])
    return clicked


def _real(width: int, size: Int[np.ndarray, " impressions"]) -> Bool[np.ndarray, "impressions {width}"]:
    """True for candidates, False for padding."""
    real: Bool[np.ndarray, "impressions {width}"] = np.arange(width) < size[:, None]
    return real


def _sigmoid(odds: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    probability: Float[np.ndarray, "*shape"] = 1 / (1 + np.exp(-np.clip(odds, *ODDS_RANGE)))
    return probability


def _american(time: float) -> str:
    moment = START + timedelta(seconds=round(time * 86_400))
    half = "PM" if moment.hour >= 12 else "AM"
    return f"{moment.month}/{moment.day}/{moment.year} {moment.hour % 12 or 12}:{moment:%M:%S} {half}"


class _Entity(NamedTuple):
    label: str
    kind: str
    number: int


class _Mention(NamedTuple):
    offset: int
    surface: str
    entity: _Entity


@dataclass(frozen=True)
class _Category:
    name: str
    phrases: dict[str, list[str]]
    subcategories: dict[str, list[str]]
    entities: dict[str, list[_Entity]]


def _article(
    chance: random.Random, article: str, place: tuple[_Category, str], categories: list[_Category]
) -> tuple[str, int]:
    """One line of ``news.tsv``, and the number of the entity the title names first (-1: none)."""
    category, subcategory = place
    wider = chance.choice(categories)
    topic, other = chance.sample(category.subcategories[subcategory], 2)
    if chance.random() < 0.15:
        other = chance.choice(chance.choice(list(wider.subcategories.values())))
    words: dict[str, tuple[str, _Entity | None]] = {"topic": (topic, None), "other": (other, None)}
    for slot, phrases in (_SHARED | category.phrases).items():
        words[slot] = (chance.choice(phrases), None)
    for slot, own in category.entities.items():
        entity = chance.choice(own if chance.random() < 0.9 else wider.entities[slot])
        words[slot] = (entity.label, entity)
    person = words["person"]
    words["surname"] = (person[0].split()[-1], person[1])

    title, mentions = _sentence(chance.choice(_TITLES), words)
    abstract, details = "", list[_Mention]()
    if chance.random() < 0.95:
        abstract, details = _sentence(chance.choice(_ABSTRACTS) + " This story is simulated.", words)
    columns = (
        *(article, category.name, subcategory, title, abstract),
        f"https://simulated.example/news/{article}.html",
        *(_entities_json(chance, mentions), _entities_json(chance, details)),
    )
    return "\t".join(columns) + "\n", mentions[0].entity.number if mentions else -1


def _sentence(template: str, words: dict[str, tuple[str, _Entity | None]]) -> tuple[str, list[_Mention]]:
    text, mentions = "", list[_Mention]()
    for literal, slot, _, _ in Formatter().parse(template):
        text += literal
        if slot:
            surface, entity = words[slot]
            if entity:
                mentions.append(_Mention(len(text), surface, entity))
            text += surface
    return text[0].upper() + text[1:], mentions


def _entities_json(chance: random.Random, mentions: list[_Mention]) -> str:
    grouped: dict[_Entity, list[_Mention]] = {}
    for mention in mentions:
        grouped.setdefault(mention.entity, []).append(mention)
    return json.dumps(
        [
            {
                "Label": entity.label,
                "Type": entity.kind,
                "WikidataId": f"Q9000{entity.number:06d}",
                "Confidence": round(chance.uniform(0.9, 1.0), 3),
                "OccurrenceOffsets": [mention.offset for mention in found],
                "SurfaceForms": [mention.surface for mention in found],
            }
            for entity, found in grouped.items()
        ]
    )


def _categories(chance: random.Random) -> list[_Category]:
    starts, middles, ends = (line.split() for line in _SYLLABLES)
    invented = [start + middle + end for start in starts for middle in middles for end in ends]
    chance.shuffle(invented)
    numbers = iter(range(len(invented)))

    def entities(kind: str, forms: list[str], count: int) -> list[_Entity]:
        return [
            _Entity(chance.choice(forms).format(invented.pop(), invented.pop()), kind, next(numbers))
            for _ in range(count)
        ]

    categories = []
    lines = iter(_VOCABULARY.strip().splitlines())
    for name, firms, things in (line.split(": ") for line in lines):
        phrases = {slot: next(lines).strip().split(", ") for slot in ("does", "when")}
        topics = dict(next(lines).strip().split(": ") for _ in range(4))
        pools = {
            "person": entities("P", ["{} {}"], 12),
            "firm": entities("O", [f"{{}} {ending}" for ending in firms.split(", ")], 8),
            "place": entities("G", _PLACES, 8),
            "thing": entities("C", [f"{{}} {ending}" for ending in things.split(", ")], 6),
        }
        subcategories = {subcategory: phrase.split(", ") for subcategory, phrase in topics.items()}
        categories.append(_Category(name, phrases, subcategories, pools))
    return categories


_SYLLABLES = (
    "Bal Cor Dra Fen Gal Hul Jor Kel Lor Mav Nor Pel Quin Ros Sil Tor Ulv Ver Wen Yar Zan",
    "a e i o u an el ir",
    "ck dan lis mere nor rick sen ska tan thel vane vik wen zar",
)
_PLACES = ["Port {}", "Lake {}", "North {}", "{} Bay", "{}ville", "{}burg", "{} Valley"]

_SHARED = {
    "number": ["3", "5", "7", "10", "12", "20"],
    "odd": ["surprising", "quiet", "costly", "remarkable", "bitter", "long-awaited", "unusual", "simple"],
    "asks": ["asks", "wonders", "wants to know", "explains", "remembers", "reveals"],
    "crowd": ["fans", "neighbors", "experts", "critics", "families", "officials", "locals"],
}

_TITLES = [
    "{person} {does} {topic} {when}",
    "{person} {does} {topic} in {place}",
    "{firm} {does} {topic} {when}",
    "{firm} {does} {topic} as {crowd} look on",
    "{place} {crowd} split over {topic} {when}",
    "{number} things to know about {topic} in {place}",
    "{number} {odd} facts about {topic} and {other}",
    "How {person} turned {topic} into {other}",
    "Why {crowd} keep talking about {topic} {when}",
    "What {topic} means for {firm} and {place}",
    "What {person} said about {topic} {when}",
    "{thing} brings {topic} back to {place}",
    "The {odd} story behind {topic} at the {thing}",
    "Is {topic} worth it? {person} {asks} {when}",
    "{topic} and {other}: the {odd} week of {firm}",
    "Opinion: {firm} should stop worrying about {topic}",
    "{crowd} cheer as {person} {does} {topic}",
    "Photos: {topic} {when} in {place}",
    "{person} leaves {firm} over {topic}",
    "The {odd} guide to {topic} and {other} {when}",
    "From {topic} to {other}: inside the {thing}",
    "{firm} and {person} at odds over {topic}",
    "{number} ways {crowd} deal with {topic} {when}",
]
_ABSTRACTS = [
    "{person} {does} {topic} {when}. {surname} told {crowd} in {place} that {other} came as no surprise.",
    "{firm} {does} {topic}, and {crowd} wonder about {other}. {firm} has not commented.",
    "{crowd} in {place} have followed {topic} {when}.",
    "It began with {topic} {when}. Now {person} of {firm} {does} {other}.",
    "A closer look at {topic}, {other} and what {person} makes of the {thing}.",
]

# A category with its endings for organisations and things; what is done there; when; four subcategories.
_VOCABULARY = """
sports: Rovers, United, Athletic, Wanderers: Cup, Open, Trophy
  celebrates, shrugs off, trains through, fears, coaches around
  before the season opener, after overtime, in the final minutes, ahead of the playoffs, on match day
  football: a late penalty, the goalkeeper injury, a derby draw, the striker transfer, relegation
  tennis: a straight-set win, the second serve, a clay-court upset, match point, the doubles final
  basketball: a buzzer beater, the rookie point guard, a triple-double, the draft pick, free throws, a dunk
  cycling: the mountain stage, a sprint finish, the yellow jersey, a crash in the peloton, time trials
politics: Party, Alliance, Ministry, Council: Act, Accord, Commission
  campaigns against, votes on, vetoes, defends, denounces
  ahead of the election, after a marathon session, before the recess, at the party convention, in parliament
  elections: the ballot recount, early voting, a poll lead, the primary debate, campaign donations, a runoff
  diplomacy: the peace talks, a trade treaty, new sanctions, the border summit, an ambassador recall
  lawmaking: the budget bill, a filibuster, tax reform, the voting rights bill, a committee vote, an amendment
  localgovernment: the mayor race, a zoning dispute, the school board, property taxes, a bus lane plan
finance: Bank, Capital, Holdings, Insurance: Fund, Index, Bond
  invests in, warns of, bets against, prices in, profits from
  before the opening bell, after quarterly earnings, amid rising rates, as markets slide, this fiscal year
  markets: a stock rally, bond yields, the market selloff, a dividend cut, futures trading, short sellers
  personalfinance: credit card debt, retirement savings, a mortgage refinance, student loans
  realestate: home prices, a rent increase, the housing shortage, open houses, an office vacancy
  companies: a merger offer, the chief executive's exit, mass layoffs, a bankruptcy filing, record revenue
technology: Systems, Software, Robotics, Networks: Phone, Tablet, Assistant
  unveils, patches, reverse-engineers, ships, programs
  at the developer conference, in the latest update, after a data leak, ahead of the product launch, in beta
  gadgets: a folding screen, wireless earbuds, battery life, the smartwatch, a phone camera, a laptop keyboard
  software: a security flaw, the app store, a browser extension, an open-source library, cloud storage
  artificialintelligence: a chatbot, machine learning, face recognition, neural networks, training data
  gaming: a console release, the game trailer, an esports final, a puzzle game, virtual reality
science: Institute, Laboratory, University, Observatory: Telescope, Probe, Expedition
  measures, discovers, models, publishes data on, disproves
  in a new study, after decades of research, under the microscope, at the annual meeting, in peer review
  space: a distant galaxy, the lunar lander, a meteor shower, the rocket launch, a black hole, Martian dust
  nature: a rare orchid, whale migration, the coral reef, wolf packs, a new beetle species, songbirds
  physics: dark matter, a particle collider, quantum entanglement, superconductors, gravitational waves
  archaeology: a bronze sword, the buried temple, ancient pottery, a cave painting, a royal tomb
health: Clinic, Hospital, Foundation, Therapeutics: Trial, Registry, Vaccine
  treats, studies, recovers from, raises awareness of, screens for
  during flu season, after a clinical trial, before your next checkup, according to doctors, in midlife
  nutrition: vitamin deficiency, a low-sugar diet, fasting, protein intake, gut bacteria, cholesterol
  fitness: strength training, a morning stretch, knee pain, a marathon plan, yoga, resting heart rate
  medicine: a cancer drug, the flu vaccine, high blood pressure, an asthma inhaler, heart surgery, antibiotics
  mentalhealth: burnout, anxiety, a sleep disorder, seasonal depression, mindfulness, grief counseling
foodanddrink: Kitchen, Bakery, Brewery, Bistro: Cookbook, Cheese, Chili
  cooks with, perfects, taste-tests, seasons, serves
  for a weeknight dinner, at the farmers market, on the new menu, this holiday season, in under an hour
  recipes: a slow-cooker stew, sourdough bread, roasted vegetables, a one-pan chicken, lemon pasta
  restaurants: a tasting menu, the food truck, a seafood grill, brunch, the burger joint, a noodle bar
  drinks: cold brew coffee, a craft beer, red wine, herbal tea, a gin cocktail, oat milk
  desserts: chocolate cake, an apple pie, ice cream, caramel cookies, a cheesecake, cinnamon rolls
travel: Airways, Resorts, Cruises, Railways: Trail, Express, Lodge
  flies to, books, reviews, packs for, gets lost on
  on a budget, in the off-season, over the long weekend, without the crowds, before boarding
  flights: airport security, a layover, seat upgrades, lost luggage, jet lag, frequent flyer miles
  hotels: a beach resort, the hotel minibar, a treehouse stay, late checkout, a rooftop pool, hostel bunks
  destinations: a volcanic island, the old town, a desert road trip, hidden waterfalls, vineyards
  outdoors: a hiking trail, the national park, a camping trip, kayaking, a glacier walk, wildflower meadows
autos: Motors, Automotive, Garage, Racing: Roadster, Pickup, Coupe
  test-drives, recalls, restores, tunes, crashes
  at the auto show, in a crash test, on the racetrack, with fewer moving parts, at the dealership
  electriccars: a charging station, the battery pack, driving range, an electric truck, a hybrid engine
  classiccars: a barn find, the vintage convertible, chrome bumpers, an old station wagon, a muscle car
  motorsport: the pole position, a pit stop, the rally stage, tire wear, a safety car, the final lap
  driving: winter tires, gas mileage, a parking ticket, traffic jams, brake pads, lane assist
movies: Pictures, Studios, Films, Cinemas: Chronicles, Saga, Returns
  directs, stars in, rewrites, premieres, narrates
  at the film festival, on opening weekend, before the end credits, in the director's cut, on the red carpet
  drama: a courtroom drama, the period romance, a lead actress, an award-winning script, a war epic, a remake
  comedy: a stand-up special, the buddy comedy, slapstick, a wedding farce, deadpan humor, a sitcom reunion
  horror: a haunted house, the slasher sequel, a zombie movie, jump scares, a vampire film, found footage
  animation: a cartoon sidekick, stop motion, the animated musical, voice actors, a talking fox, storyboards
music: Records, Orchestra, Quartet, Collective: Tour, Album, Nocturne
  records, sings about, remixes, conducts, writes songs about
  on the new album, at a sold-out show, during soundcheck, after the encore, on vinyl
  pop: a chart-topping single, the dance remix, a boy band, the halftime show, a catchy chorus, synthesizers
  classical: a piano sonata, the string section, an opera debut, a violin concerto, choir practice, a symphony
  rock: a guitar solo, the reunion gig, a drum kit, punk lyrics, the mosh pit, a bass riff
  hiphop: a freestyle battle, the mixtape, turntables, a rap verse, sampled beats, the producer credit
weather: Weather, Meteorology, Forecasts, Rescue: Storm, Front, Hurricane
  forecasts, tracks, braces for, digs out from, measures
  through the weekend, before dawn, along the coast, in the coming days, as temperatures drop
  storms: a tornado warning, heavy thunderstorms, gale-force winds, large hail, a hurricane landfall
  winter: a blizzard, black ice, record snowfall, wind chill, frozen pipes, a snow day
  heat: a heat wave, the drought, wildfire smoke, record highs, dry wells, a humid night
  flooding: a flash flood, river levels, storm surge, the burst levee, soaked basements, monsoon rain
"""
