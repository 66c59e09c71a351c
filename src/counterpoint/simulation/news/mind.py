"""A simulated news site in MIND's files, with the true click probabilities beside them.

Real news logs may not be passed on, and nobody knows the best score they allow. Here every headline is made
up and every click is drawn from a known probability, so the best possible score is known too. How readers
click is told in `simulate_clicks`, the headlines are made in `simulate_headlines`.
"""

import random
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Float, Int

from counterpoint.progress import Progress, silent
from counterpoint.simulation.news.clicks import Law, draw_impressions, earlier_clicks, real_candidates
from counterpoint.simulation.news.headlines import make_categories, write_article
from counterpoint.simulation.news.site import (
    BUSY,
    Clicks,
    Impressions,
    Site,
    Visits,
    draw_readers,
    front_pages,
    past_articles,
)
from counterpoint.simulation.result import Simulation, at_least, must_be_free
from counterpoint.storage.files import new_folder, write_json

# The training days run across the end of a month, so that times sorted as text come out in the wrong order.
START = datetime(2025, 9, 28)
EARLIER_DAYS = 10
EARLIER_SHARE = 0.4
LONGEST_HISTORY = 400
COLD_SHARE = 0.08
IMPRESSIONS_PER_BLOCK = 4096


@dataclass(frozen=True)
class Parameters:
    """What a simulation depends on, and nothing else."""

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
    progress: Progress = silent,
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
        progress: is told how many readers are done.

    Raises:
        UsageError: an option is too small, or ``out`` holds something already.
    """
    fewest, most = candidates
    at_least("candidates (fewest)", fewest, 2)
    at_least("candidates (most)", most, fewest)
    at_least("readers", readers, 1)
    at_least("days", days, 3)
    at_least("articles", articles, max(60, 2 * fewest * days))
    at_least("seed", seed, 0)
    at_least("impressions_per_reader", impressions_per_reader, 1)
    at_least("category_strength", category_strength, 0)
    must_be_free(out, overwrite)

    parameters = Parameters(
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


def _readme(parameters: Parameters) -> str:
    settings = ", ".join(f"{name} {value}" for name, value in asdict(parameters).items())
    return (
        "# A simulated news site\n\n"
        "Everything in this folder is simulated: no article, entity, reader or click is real, and the "
        "Wikidata ids, all beginning with Q9000, belong to nobody. The files follow the format of the MIND "
        f"dataset: `train` holds all days but the last of {parameters.days}, `dev` the last, and `truth` the "
        f"probabilities the clicks were drawn from. Made by `counterpoint simulate news` with {settings}.\n"
    )


def _write_articles(folder: Path, parameters: Parameters) -> Site:
    rng = np.random.default_rng([parameters.seed, 0])
    chance = random.Random(parameters.seed)
    categories = make_categories(chance)
    each = len(categories[0].subcategories)
    names = [(category, name) for category in categories for name in category.subcategories]
    size = np.repeat(1 / (3 + np.arange(len(categories))), each)
    subcategory = rng.choice(len(names), parameters.articles, p=size / size.sum())
    published = rng.permutation(
        publication(rng, parameters.articles, EARLIER_SHARE, EARLIER_DAYS, parameters.days)
    )
    lead = np.full(parameters.articles, -1)
    with (
        (folder / "train" / "news.tsv").open("w", encoding="utf-8", newline="\n") as train,
        (folder / "dev" / "news.tsv").open("w", encoding="utf-8", newline="\n") as dev,
    ):
        for index, which in enumerate(subcategory.tolist()):
            line, lead[index] = write_article(chance, f"N{index + 1}", names[which], categories)
            dev.write(line)
            if published[index] < parameters.days - 1:
                train.write(line)
    return Site(
        len(categories),
        each,
        sum(map(len, categories[0].entities.values())),
        subcategory,
        lead,
        published,
        rng.normal(size=parameters.articles),
        np.zeros(parameters.articles, int),
    )


def publication(
    rng: np.random.Generator, articles: int, earlier_share: float, earlier_days: int, days: int
) -> Float[np.ndarray, " articles"]:
    """Days since the start, in order, evenly spread: even a small site has live articles all the time."""
    quantile = (np.arange(articles) + rng.random(articles)) / articles
    earlier = (quantile / earlier_share - 1) * earlier_days
    during = (quantile - earlier_share) / (1 - earlier_share) * days
    return np.where(quantile < earlier_share, earlier, during)


class _Split:
    """A split being written: rows are appended by block, the truth is kept in parts and joined at the end."""

    def __init__(self, folder: Path, name: str) -> None:
        self._behaviors = folder / name / "behaviors.tsv"
        self._truth = folder / "truth" / f"{name}.parquet"
        self._parts: list[Path] = []
        self.impressions = self.clicks = 0

    def append(self, shown: Impressions, first_reader: int, histories: list[str]) -> None:
        real = real_candidates(shown.candidate.shape[1], shown.size)
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
    folder: Path, site: Site, parameters: Parameters, progress: Progress
) -> dict[str, int]:
    front, past = front_pages(site, parameters.days), past_articles(site)
    law = Law(parameters.days, parameters.category_strength)
    train, dev = _Split(folder, "train"), _Split(folder, "dev")
    cold = 0
    block = max(1, int(IMPRESSIONS_PER_BLOCK / parameters.impressions_per_reader))
    for first in range(0, parameters.readers, block):
        count = min(block, parameters.readers - first)
        rng = np.random.default_rng([parameters.seed, 1, first])
        readers = draw_readers(rng, site, count)
        earlier = earlier_clicks(rng, site, past, readers, _history_lengths(rng, count), law)
        visits = _draw_visits(rng, count, parameters)
        shown = draw_impressions(rng, site, front, readers, visits, parameters.most_candidates, law)
        is_dev = shown.time >= parameters.days - 1
        training = shown.of(~is_dev)
        train.append(training, first, _histories(count, earlier))
        dev.append(shown.of(is_dev), first, _histories(count, earlier, training.clicks()))
        cold += count - len(np.unique(earlier.reader))
        progress("simulating readers", first + count, parameters.readers)
    train.finish()
    dev.finish()
    return {
        "cold_readers": cold,
        "train_impressions": train.impressions,
        "train_clicks": train.clicks,
        "dev_impressions": dev.impressions,
        "dev_clicks": dev.clicks,
    }


def _history_lengths(rng: np.random.Generator, readers: int) -> Int[np.ndarray, " readers"]:
    length: Int[np.ndarray, " readers"] = np.clip(
        np.rint(15 * np.exp(rng.normal(size=readers))), 1, LONGEST_HISTORY
    ).astype(int)
    length[rng.random(readers) < COLD_SHARE] = 0
    return length


def _draw_visits(rng: np.random.Generator, readers: int, parameters: Parameters) -> Visits:
    reader = np.repeat(np.arange(readers), 1 + rng.poisson(parameters.impressions_per_reader - 1, readers))
    hour = rng.integers(parameters.days, size=len(reader)) * 24 + rng.choice(24, len(reader), p=BUSY)
    time = (hour * 3600 + rng.integers(3600, size=len(reader))) / 86_400
    fewest, most = parameters.fewest_candidates, parameters.most_candidates
    size = np.minimum(fewest - 1 + rng.geometric(4 / (most - fewest + 4), len(reader)), most)
    return Visits(reader, hour, time, size)


def _histories(readers: int, *clicks: Clicks) -> list[str]:
    """Each reader's articles, oldest first, as MIND writes them."""
    reader, article, time = (np.concatenate(columns) for columns in zip(*clicks, strict=True))
    order = np.lexsort((time, reader))
    names = [f"N{index + 1}" for index in article[order].tolist()]
    ends = np.cumsum(np.bincount(reader, minlength=readers)).tolist()
    return [" ".join(names[start:end]) for start, end in pairwise([0, *ends])]


def _american(time: float) -> str:
    moment = START + timedelta(seconds=round(time * 86_400))
    half = "PM" if moment.hour >= 12 else "AM"
    return f"{moment.month}/{moment.day}/{moment.year} {moment.hour % 12 or 12}:{moment:%M:%S} {half}"
