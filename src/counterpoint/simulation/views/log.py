"""Simulated short-video logs whose truth is known: the probability of each label of each view."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Int

from counterpoint.feedback.data.formats.simulated import LABEL, TRUTH
from counterpoint.progress import Progress, silent
from counterpoint.simulation.result import Simulation, at_least, between, must_be_free
from counterpoint.simulation.views.law import (
    DEVICES,
    MOST_TASKS,
    TOPICS,
    Law,
    Videos,
    draw_labels,
    draw_met,
    draw_users,
    draw_videos,
    find_law,
    label_names,
    logits_of,
)
from counterpoint.storage.files import new_folder, write_json

START = 1_761_955_200  # the first of November 2025, in seconds of UTC
ROWS_PER_PAGE = 1 << 18
_DAY = 86_400


@dataclass(frozen=True)
class Parameters:
    """What a simulation depends on, and nothing else."""

    users: int
    videos: int
    rows: int
    tasks: int
    seed: int
    days: int
    relatedness: float
    conflict: float
    heterogeneity: float

    @property
    def views_per_user(self) -> float:
        """The mean number of views."""
        return self.rows / self.users


def simulate(
    out: Path,
    *,
    users: int = 2_000,
    videos: int = 1_500,
    rows: int = 100_000,
    tasks: int = 6,
    seed: int = 0,
    days: int = 14,
    relatedness: float = 0.5,
    conflict: float = 0.5,
    heterogeneity: float = 0.7,
    overwrite: bool = False,
    progress: Progress = silent,
) -> Simulation:
    """Write a simulated log of views; the same arguments give the same bytes.

    ``OUT/simulated-views.parquet`` holds a row for each view: user, video, author, topic, tags, device, hour,
    duration (seconds), time (seconds since 1970), and for each label ``label_…`` (1 or 0) and ``true_…``, the
    probability that it was drawn with. Users are drawn in pages, so memory depends on the videos alone.

    Args:
        out: the folder to write; it appears only when it is complete.
        users: users; some of the few who view nothing are not in the log.
        videos: videos.
        rows: views, on average.
        tasks: labels: half of them about watching, half about engaging.
        seed: of every random choice.
        days: days logged.
        relatedness: how far engaging has the reasons of watching: 1 the same taste, 0 an unrelated one, -1
            the opposite.
        conflict: how far the luck of watching and of engaging excludes each other, beyond their reasons.
        heterogeneity: how unequal the labels' rates are: at 0 all are 0.4, at 1 they fall to 0.008.
        overwrite: replace ``out`` if something is there.
        progress: is told how many users are done.

    Raises:
        UsageError: an option is out of range, or ``out`` holds something already.
    """
    at_least("users", users, 1)
    at_least("videos", videos, 2)
    at_least("rows", rows, users)
    between("tasks", tasks, 2, MOST_TASKS)
    at_least("seed", seed, 0)
    at_least("days", days, 1)
    between("relatedness", relatedness, -1, 1)
    between("conflict", conflict, 0, 1)
    between("heterogeneity", heterogeneity, 0, 1)
    must_be_free(out, overwrite)

    parameters = Parameters(users, videos, rows, tasks, seed, days, relatedness, conflict, heterogeneity)
    labels = label_names(tasks)
    with new_folder(out) as folder:
        catalogue = draw_videos(np.random.default_rng([seed, 0]), videos, tasks)
        law = find_law(
            np.random.default_rng([seed, 1]),
            catalogue,
            labels,
            relatedness=relatedness,
            conflict=conflict,
            heterogeneity=heterogeneity,
        )
        counts = _write(folder, catalogue, law, parameters, progress)
        write_json(
            folder / "simulation.json",
            {"simulated": True, "parameters": asdict(parameters), "law": asdict(law), "counts": counts},
        )
        (folder / "README.md").write_text(_readme(parameters, labels), encoding="utf-8")
    return Simulation(out, counts)


def _write(
    folder: Path, catalogue: Videos, law: Law, parameters: Parameters, progress: Progress
) -> dict[str, int]:
    """Write the log page by page and join the pages; return what it holds."""
    counts = {"users": 0, "views": 0, **dict.fromkeys(law.labels, 0)}
    pages: list[Path] = []
    for done, page in _pages(catalogue, law, parameters):
        pages.append(folder / f"page-{len(pages):06d}")
        page.write_parquet(pages[-1])
        counts["users"] += page["user"].n_unique()
        counts["views"] += len(page)
        for label in law.labels:
            counts[label] += int(page[LABEL + label].sum())
        progress("simulating users", done, parameters.users)
    log = pl.scan_parquet(pages, glob=False)
    log.sink_parquet(folder / "simulated-views.parquet", row_group_size=ROWS_PER_PAGE)
    for file in pages:
        file.unlink()
    return counts


def _pages(catalogue: Videos, law: Law, parameters: Parameters) -> Iterator[tuple[int, pl.DataFrame]]:
    """Draw the users page by page, each page from a seed of its own."""
    size = max(1, int(ROWS_PER_PAGE / parameters.views_per_user))
    for first in range(0, parameters.users, size):
        count = min(size, parameters.users - first)
        draw = np.random.default_rng([parameters.seed, 2, first])
        yield first + count, _page(draw, first, count, catalogue, law, parameters)


def _page(
    draw: np.random.Generator,
    first: int,
    count: int,
    catalogue: Videos,
    law: Law,
    parameters: Parameters,
) -> pl.DataFrame:
    """Draw some users, whose views are gamma-Poisson distributed, and what they view."""
    users = draw_users(draw, count, len(law.labels))
    devices = draw.integers(len(DEVICES), size=count)
    views = draw.poisson(draw.gamma(2.0, parameters.views_per_user / 2.0, size=count))
    viewer = np.repeat(np.arange(count), views)
    met = draw_met(draw, catalogue, len(viewer))
    times = START + draw.integers(parameters.days * _DAY, size=len(viewer))
    times = times[np.lexsort((times, viewer))]
    probabilities = 1 / (1 + np.exp(-logits_of(users.of(viewer), catalogue, met, law)))
    happened = draw_labels(draw, probabilities, law)
    return pl.DataFrame(
        {
            "user": _names("u", first + viewer, parameters.users),
            "video": _names("v", met, parameters.videos),
            "author": _names("a", catalogue.authors[met], parameters.videos),
            "topic": _names("t", catalogue.topics[met], TOPICS),
            "tags": _tags(catalogue, met),
            "device": pl.Series(DEVICES).gather(devices[viewer]),
            "hour": (times - START) // 3600 % 24,
            "duration": catalogue.seconds[met].round(1),
            "time": times,
            **{LABEL + label: happened[:, place].astype(np.uint8) for place, label in enumerate(law.labels)},
            **{
                TRUTH + label: probabilities[:, place].astype(np.float32)
                for place, label in enumerate(law.labels)
            },
        }
    )


def _tags(catalogue: Videos, met: Int[np.ndarray, " views"]) -> pl.Series:
    """Return the tags of each view's video: its topic, and one that tells nothing."""
    videos = np.arange(len(catalogue.topics))
    pairs = np.stack((catalogue.topics, TOPICS + videos % TOPICS), axis=1)
    tags = pl.DataFrame(pairs.astype(str), schema=["first", "second"])
    both: pl.Series = tags.select(pl.concat_list("first", "second").alias("tags"))["tags"]
    return both.gather(met)


def _names(letter: str, numbers: Int[np.ndarray, " ids"], count: int) -> pl.Series:
    """Ids that sort as their numbers do: u00012."""
    digits = max(5, len(str(count - 1)))
    return letter + pl.Series(numbers).cast(pl.String).str.zfill(digits)


def _readme(parameters: Parameters, labels: tuple[str, ...]) -> str:
    settings = ", ".join(f"{name} {value}" for name, value in asdict(parameters).items())
    return (
        "# Simulated short videos\n\n"
        "Everything in this folder is simulated: no user, video or label is real. `simulated-views.parquet` "
        "has a row for each view; times are seconds since 1970, durations seconds.\n\n"
        f"The labels are {', '.join(labels)}. A column `label_…` says whether one happened, `true_…` the "
        "probability that it was drawn with. What makes people watch and what makes them engage are tastes "
        "that agree as far as `relatedness` says. By `conflict`, the luck of both excludes each other "
        "beyond that; by `heterogeneity`, some labels are rare. The formulas stand in "
        "`counterpoint.simulation.views.law`.\n\n"
        f"Made by `counterpoint simulate feedback` with {settings}.\n"
    )
