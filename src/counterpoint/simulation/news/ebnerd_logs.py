"""Writing the behaviours, histories and truth of a simulated EB-NeRD bundle."""

from pathlib import Path

import numpy as np
import polars as pl

from counterpoint.progress import Progress
from counterpoint.simulation.news.ebnerd_files import (
    BEHAVIORS,
    HISTORY,
    TRUTH,
    UNLABELLED,
    Columns,
    PartedFile,
)
from counterpoint.simulation.news.ebnerd_impressions import (
    CANDIDATES,
    DAY,
    News,
    Parameters,
    draw_log,
    draw_people,
    draw_test,
    earlier_views,
)
from counterpoint.simulation.news.reading import draw_sessions
from counterpoint.simulation.news.site import draw_readers

IMPRESSIONS_PER_BLOCK = 4096


def write_logs(folder: Path, news: News, parameters: Parameters, progress: Progress) -> dict[str, int]:
    """Write all splits and their truth, block of readers by block, and return the counts."""
    days = [0, parameters.days - parameters.validation_days, parameters.days, parameters.all_days]
    borders = np.array(days) * DAY
    splits = [
        _Split(folder, "train", BEHAVIORS, borders[0], borders[1]),
        _Split(folder, "validation", BEHAVIORS, borders[1], borders[2]),
    ]
    if parameters.test_impressions:
        splits.append(_Split(folder, "test", UNLABELLED, borders[2], borders[3]))
    impressions = sessions = 0
    block = max(1, int(IMPRESSIONS_PER_BLOCK / parameters.impressions_per_reader))
    for first in range(0, parameters.readers, block):
        count = min(block, parameters.readers - first)
        rng = np.random.default_rng([parameters.seed, 1, first])
        readers = draw_readers(rng, news.site, count)._replace(mood=rng.normal(size=count))
        people = draw_people(rng, first, count)
        earlier = earlier_views(rng, news, readers, people)
        drawn = draw_sessions(rng, count, parameters.days, parameters.impressions_per_reader, CANDIDATES)
        log, clicked = draw_log(rng, news, readers, people, drawn, borders)
        beyond = pl.DataFrame()
        if parameters.test_impressions:
            rng = np.random.default_rng([parameters.seed, 2, first])
            unlabelled, beyond = draw_test(rng, news, readers, people, parameters, first)
            log = pl.concat([log, unlabelled.with_columns(pl.col("session_id") + log["session_id"].max())])
        log = log.with_columns(
            impression_id=pl.int_range(1 + impressions, 1 + impressions + len(log)),
            session_id=pl.col("session_id") + sessions,
        )
        impressions, sessions = impressions + len(log), int(log["session_id"].to_numpy().max())
        for split in splits:
            split.append(log, beyond, pl.concat([earlier, clicked]))
        progress("simulating readers", first + count, parameters.readers)
    return {name: count for split in splits for name, count in split.finish().items()}


class _Split:
    """A split being written: the impressions from one second until another, and what was read before."""

    def __init__(self, folder: Path, name: str, columns: Columns, start: int, end: int) -> None:
        self._name, self._start, self._end = name, start, end
        self._labelled = "article_ids_clicked" in columns
        self._behaviors = PartedFile(folder / name / "behaviors.parquet", columns)
        self._history = PartedFile(folder / name / "history.parquet", HISTORY)
        self._truth = PartedFile(folder / "truth" / f"{name}.parquet", TRUTH)
        self._impressions = self._clicks = self._beyond = 0

    def append(self, log: pl.DataFrame, beyond: pl.DataFrame, views: pl.DataFrame) -> None:
        rows = log.filter(pl.col("second").is_between(self._start, self._end, closed="left"))
        beyond = rows.clear() if self._labelled else beyond
        for part, last in ((rows, False), (beyond, True)):
            self._behaviors.append(part, last=last)
            self._truth.append(part.rename({"impression_id": "impression"}), last=last)
        present = pl.concat([rows["user_id"], beyond["user_id"]]).unique()
        known = views.filter(pl.col("second") < self._start, pl.col("user_id").is_in(present.implode()))
        self._history.append(_histories(known))
        self._impressions += len(rows)
        self._clicks += int(rows["article_ids_clicked"].list.len().sum())
        self._beyond += len(beyond)

    def finish(self) -> dict[str, int]:
        for file in (self._behaviors, self._history, self._truth):
            file.finish()
        counts = {f"{self._name}_impressions": self._impressions}
        if self._labelled:
            return counts | {f"{self._name}_clicks": self._clicks}
        return counts | {"beyond_accuracy_impressions": self._beyond}


def _histories(views: pl.DataFrame) -> pl.DataFrame:
    """One row of each reader's views, oldest first."""
    ordered = views.sort("user_id", "second", maintain_order=True)
    return ordered.group_by("user_id", maintain_order=True).agg(
        impression_time_fixed="time",
        scroll_percentage_fixed="scrolled",
        article_id_fixed="article",
        read_time_fixed="seconds",
    )


def totals(folder: Path) -> pl.DataFrame:
    """How often each article was in view and opened, and how long it was read, in the labelled logs."""
    logs = pl.concat(
        [pl.scan_parquet(folder / name / "behaviors.parquet", glob=False) for name in ("train", "validation")]
    )
    inviews = logs.select(article_id="article_ids_inview").explode("article_id")
    opened = logs.select("next_read_time", article_id="article_ids_clicked").explode("article_id")
    earlier = pl.scan_parquet(folder / "train" / "history.parquet", glob=False).select(
        article_id="article_id_fixed", next_read_time="read_time_fixed"
    )
    views = pl.concat([opened, earlier.explode("article_id", "next_read_time")], how="diagonal")
    counted = inviews.group_by("article_id").agg(total_inviews=pl.len())
    viewed = views.group_by("article_id").agg(
        total_pageviews=pl.len(), total_read_time=pl.col("next_read_time").cast(pl.Float64).sum()
    )
    return (
        counted.join(viewed, on="article_id", how="full", coalesce=True)
        .sort("article_id")
        .cast({"total_inviews": pl.Int32, "total_pageviews": pl.Int32, "total_read_time": pl.Float32})
        .collect()
    )
