"""Simulated articles for the ids of a real EB-NeRD bundle that comes without its articles."""

import os
import random
import shutil
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl

from counterpoint.errors import CounterpointError, UsageError
from counterpoint.progress import Progress, silent
from counterpoint.simulation.news.danish import make_categories, write_article
from counterpoint.simulation.news.ebnerd_files import ARTICLES, MOMENT, PartedFile, article_rows
from counterpoint.simulation.result import Simulation, at_least, must_be_free
from counterpoint.storage.files import new_folder, write_json

SPLITS = ("train", "validation", "test")
ARTICLES_PER_PART = 5_000


def simulate_articles_like(
    bundle: Path, out: Path, *, seed: int = 0, overwrite: bool = False, progress: Progress = silent
) -> Simulation:
    """Write a bundle with the logs of ``bundle`` and simulated articles for every id they name.

    Category, sentiment and words of an article are drawn from the seed alone and tell nothing about who
    clicked it, beyond chance. Only
    ``published_time`` depends on the logs; it lies shortly before the id first appears in any of them.
    ``behaviors.parquet`` and ``history.parquet`` are hard links to those of ``bundle``, or copies where there
    can be no links. The totals of the articles are left empty.

    Args:
        bundle: a folder with ``train``, ``validation`` or ``test``, each with behaviours and histories.
        out: the folder to write; it appears only when it is complete.
        seed: of every random choice; the same seed and ids give the same bytes.
        overwrite: replace ``out`` if something is there.
        progress: is told how many log files and articles are done.

    Raises:
        UsageError: ``bundle`` has no logs or other columns, or ``out`` holds something already.
        CounterpointError: a log cannot be read.
    """
    at_least("seed", seed, 0)
    logs = _find_logs(bundle)
    if out.resolve() == bundle.resolve():
        raise UsageError(f"{out}: this is the bundle itself; choose another folder.")
    must_be_free(out, overwrite)

    seen = _first_seen(logs, progress)
    with new_folder(out) as folder:
        _write_articles(folder, seen, seed, progress)
        for log in logs:
            _link(log, folder / log.parent.name / log.name)
        counts = {"articles": len(seen), "logs": len(logs)}
        described = {"simulated": "articles", "like": str(bundle), "parameters": {"seed": seed}}
        write_json(folder / "simulation.json", {**described, "counts": counts})
        (folder / "README.md").write_text(_README.format(seed=seed), encoding="utf-8")
    return Simulation(out, counts)


_README = """# Real logs with simulated articles

`articles.parquet` is simulated: its texts, categories, entities and sentiments are made up and were drawn
with seed {seed} alone. By construction they carry no information about the clicks beyond chance; only
`published_time` was derived from the logs, as shortly before an article first appears in them. The behaviours
and histories are those of the bundle named in `simulation.json`, unchanged, and keep its licence. Made by
`counterpoint simulate ebnerd --like`.
"""


def _find_logs(bundle: Path) -> list[Path]:
    """The behaviours and histories of the bundle's splits."""
    splits = [bundle / split for split in SPLITS if (bundle / split / "behaviors.parquet").is_file()]
    if not splits:
        raise UsageError(
            f"{bundle}: no behaviors.parquet in {', '.join(SPLITS)}; give the folder of an EB-NeRD bundle."
        )
    for split in splits:
        if not (split / "history.parquet").is_file():
            raise UsageError(f"{split}: no history.parquet beside behaviors.parquet; put it there.")
    return [split / name for split in splits for name in ("behaviors.parquet", "history.parquet")]


def _first_seen(logs: list[Path], progress: Progress) -> pl.DataFrame:
    """Every article id of the logs, in order, with the moment of its first appearance."""
    found = []
    for done, log in enumerate(logs):
        progress("reading logs", done, len(logs))
        found.append(_appearances(log))
    progress("reading logs", len(logs), len(logs))
    return pl.concat(found).group_by("article").agg(pl.col("time").min()).sort("article")


def _appearances(log: Path) -> pl.DataFrame:
    """The article ids of one log, each with the moment of its first appearance; read in a stream."""
    table = pl.scan_parquet(log, glob=False)
    try:
        if log.name == "history.parquet":
            both = table.select(article="article_id_fixed", time="impression_time_fixed")
            named = [both.explode("article", "time")]
        else:
            known = table.collect_schema().names()
            lists = ["article_ids_inview", *({"article_ids_clicked"} & set(known))]
            named = [table.select(article=name, time="impression_time").explode("article") for name in lists]
            if "article_id" in known:
                named.append(table.select(article="article_id", time="impression_time"))
        rows = pl.concat(named).drop_nulls("article").cast({"article": pl.Int32, "time": MOMENT})
        return rows.group_by("article").agg(pl.col("time").min()).collect(engine="streaming")
    except pl.exceptions.ColumnNotFoundError as error:
        raise UsageError(
            f"{log}: a column of EB-NeRD's is missing ({_line(error)}); fetch it again."
        ) from error
    except pl.exceptions.PolarsError as error:
        raise CounterpointError(f"{log}: cannot be read ({_line(error)}); fetch it again.") from error


def _line(error: Exception) -> str:
    return str(error).splitlines()[0].rstrip(".")


def _write_articles(folder: Path, seen: pl.DataFrame, seed: int, progress: Progress) -> None:
    chance = random.Random(seed)
    categories = make_categories(chance)
    places = [(category, name) for category in categories for name in category.subcategories]
    target = PartedFile(folder / "articles.parquet", ARTICLES)
    for start in range(0, max(len(seen), 1), ARTICLES_PER_PART):
        told = []
        for number, first in seen.slice(start, ARTICLES_PER_PART).iter_rows():
            index, tone = chance.randrange(len(places)), chance.choice((-1, 0, 1))
            text = write_article(chance, places[index], tone, categories)
            told.append((number, index, tone, _shortly_before(chance, first), text))
        target.append(article_rows(chance, categories, told))
        progress("writing articles", min(start + ARTICLES_PER_PART, len(seen)), len(seen))
    target.finish()


def _shortly_before(chance: random.Random, moment: datetime) -> datetime:
    return moment - timedelta(seconds=1 + int(chance.expovariate(1 / 3600)))


def _link(log: Path, target: Path) -> None:
    target.parent.mkdir(exist_ok=True)
    try:
        os.link(log.resolve(), target)
    except OSError:
        # Another file system, or one without links.
        shutil.copyfile(log, target)
