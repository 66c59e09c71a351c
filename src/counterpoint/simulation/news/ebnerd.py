"""Simulated bundles in EB-NeRD's files and column types, wholly made up or around a real bundle's logs.

The real articles may not be passed on. `simulate_ebnerd` makes up the whole site, so that the best possible
ranking is known, as `simulate_clicks` tells; `simulate_articles_like` makes up articles for the ids of a real
bundle without texts, so that everything that reads a bundle can be tried on the real logs.
"""

import random
from dataclasses import asdict
from pathlib import Path

import numpy as np
import polars as pl

from counterpoint.progress import Progress, silent
from counterpoint.simulation.news.clicks import Law
from counterpoint.simulation.news.danish import make_categories, write_article
from counterpoint.simulation.news.ebnerd_files import article_rows, moments
from counterpoint.simulation.news.ebnerd_impressions import DAY, News, Parameters
from counterpoint.simulation.news.ebnerd_logs import totals, write_logs
from counterpoint.simulation.news.headlines import Category
from counterpoint.simulation.news.like import simulate_articles_like
from counterpoint.simulation.news.mind import publication
from counterpoint.simulation.news.site import Site, front_pages, past_articles
from counterpoint.simulation.result import Simulation, at_least, must_be_free
from counterpoint.storage.files import new_folder, write_json

__all__ = ["simulate_articles_like", "simulate_ebnerd"]

EARLIER_SHARE, EARLIER_DAYS = 0.5, 21
# Clicks are so rare that of the impressions, which have one at least, one in two hundred has more.
BASE = -6.5
# Far from the ids of the real articles, so that nobody mixes them up.
FIRST_ARTICLE = 90_000_000


def simulate_ebnerd(
    out: Path,
    *,
    readers: int = 1_500,
    articles: int = 800,
    seed: int = 0,
    days: int = 8,
    test_impressions: int = 0,
    impressions_per_reader: float = 8.0,
    category_strength: float = 1.0,
    sentiment_strength: float = 1.0,
    overwrite: bool = False,
    progress: Progress = silent,
) -> Simulation:
    """Write a simulated news site as an EB-NeRD bundle; the same arguments give the same bytes.

    ``OUT`` holds ``articles.parquet``; ``OUT/train`` and ``OUT/validation`` (the last quarter of the days)
    hold ``behaviors.parquet`` and ``history.parquet``; ``OUT/truth`` one file per split, row for row that of
    its behaviours, with ``impression`` and the lists ``probability``, ``position_free`` and ``position`` that
    `simulate.simulate` describes. ``OUT/test``, if wanted, holds unlabelled impressions of as many days more.

    Args:
        out: the folder to write; it appears only when it is complete.
        readers: readers, each with at least one impression and five earlier clicks.
        articles: articles, half of them published in the three weeks before the first day.
        seed: of every random choice.
        days: days of train and validation.
        test_impressions: impressions of ``test``, which come with a twentieth as many rows more whose
            ``impression_id`` is 0 and whose 250 candidates are the same; 0: no test folder.
        impressions_per_reader: mean number of impressions over train and validation.
        category_strength: how much categories and subcategories drive clicks; 0: not at all.
        sentiment_strength: how much the sentiment of titles does; 0: not at all.
        overwrite: replace ``out`` if something is there.
        progress: is told how many readers are done.

    Raises:
        UsageError: an option is too small, or ``out`` holds something already.
    """
    at_least("readers", readers, 1)
    at_least("days", days, 3)
    at_least("articles", articles, max(200, 20 * days))
    at_least("seed", seed, 0)
    at_least("test_impressions", test_impressions, 0)
    at_least("impressions_per_reader", impressions_per_reader, 1)
    at_least("category_strength", category_strength, 0)
    at_least("sentiment_strength", sentiment_strength, 0)
    must_be_free(out, overwrite)

    parameters = Parameters(
        *(readers, articles, seed, days, test_impressions),
        *(impressions_per_reader, category_strength, sentiment_strength),
    )
    with new_folder(out) as folder:
        news, rows = _draw_news(parameters)
        counts = {"articles": articles, "readers": readers}
        counts |= write_logs(folder, news, parameters, progress)
        rows.update(totals(folder), on="article_id").write_parquet(folder / "articles.parquet")
        write_json(
            folder / "simulation.json",
            {"simulated": True, "parameters": asdict(parameters), "counts": counts},
        )
        (folder / "README.md").write_text(_readme(parameters), encoding="utf-8")
    return Simulation(out, counts)


def _readme(parameters: Parameters) -> str:
    settings = ", ".join(f"{name} {value}" for name, value in asdict(parameters).items())
    return (
        "# A simulated EB-NeRD bundle\n\n"
        "Everything in this folder is simulated: no article, person, place, organisation, reader or click is "
        "real, and no id occurs in the real dataset. The files have the columns and types of EB-NeRD; "
        "`truth` holds the probabilities the clicks were drawn from. "
        f"Made by `counterpoint simulate ebnerd` with {settings}.\n"
    )


def _draw_news(parameters: Parameters) -> tuple[News, pl.DataFrame]:
    """Draw the articles, and their rows without totals."""
    count = parameters.articles
    rng = np.random.default_rng([parameters.seed, 0])
    chance = random.Random(parameters.seed)
    categories = make_categories(chance)
    each = len(categories[0].subcategories)
    size = np.repeat(1 / (3 + np.arange(len(categories))), each)
    subcategory = rng.choice(len(size), count, p=size / size.sum())
    sentiment = rng.choice([-1, 0, 1], count, p=[0.35, 0.4, 0.25])
    published = publication(rng, count, EARLIER_SHARE, EARLIER_DAYS, parameters.all_days)
    published = np.floor(published * DAY) / DAY
    appeal = rng.normal(size=count)
    ids = FIRST_ARTICLE + np.cumsum(rng.integers(1, 9, count))

    texts = [
        write_article(chance, _place(categories, index), tone, categories)
        for index, tone in zip(subcategory.tolist(), sentiment.tolist(), strict=True)
    ]
    times = moments(np.rint(published * DAY).astype(np.int64)).to_list()
    told = zip(ids.tolist(), subcategory.tolist(), sentiment.tolist(), times, texts, strict=True)
    site = Site(
        *(len(categories), each, sum(map(len, categories[0].entities.values()))),
        *(subcategory, np.array([text.lead for text in texts]), published, appeal, sentiment),
    )
    law = Law(parameters.all_days, parameters.category_strength, parameters.sentiment_strength, BASE)
    words = np.array([len(text.body.split()) for text in texts])
    news = News(site, ids, words, front_pages(site, parameters.all_days), past_articles(site), law)
    return news, article_rows(chance, categories, list(told))


def _place(categories: list[Category], subcategory: int) -> tuple[Category, str]:
    each = len(categories[0].subcategories)
    category = categories[subcategory // each]
    return category, list(category.subcategories)[subcategory % each]
