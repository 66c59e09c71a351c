"""What the contract needs to know of each workload: little data, spoiled data, what its runs are asked."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

import counterpoint
from counterpoint import api
from counterpoint.capabilities import Question
from counterpoint.simulation.news import mind
from counterpoint.simulation.shop import log as shop
from counterpoint.simulation.views import log as views
from sentences.simulated import lines, pairs, sentiments, write_course

Write = Callable[[Path], object]
"""Writes raw data into a folder that is not there yet."""

Change = Callable[[pl.DataFrame], pl.DataFrame]
"""Makes another table of one."""

Ask = Callable[[Path], object]
"""Asks something of a run."""


@dataclass(frozen=True)
class Case:
    """A workload with data so little that its runs take a second.

    Attributes:
        name: the workload's.
        recipe: a recipe of its own.
        small: settings that make the recipe small.
        encodes: whether the recipe has an encoder of texts.
        write: writes sound raw data.
        spoil: makes one row of them malformed; returns the file.
        hopeless: writes data from which nothing can be learned, by what is wrong, each with what the error
            must say beside the folder.
        wrong: what a run answers with an error alone, each with what the error must say.
    """

    name: str
    recipe: str
    small: tuple[str, ...]
    encodes: bool
    write: Write
    spoil: Callable[[Path], Path]
    hopeless: Mapping[str, tuple[Write, str]]
    wrong: Mapping[str, tuple[Ask, str]]

    def settings(self, encoder: Path) -> list[str]:
        """Return settings that make the recipe small, on a small encoder where it needs one."""
        return [*self.small, *([f"encoder.name={encoder}"] if self.encodes else [])]


def _news(folder: Path) -> None:
    mind.simulate(folder, readers=60, articles=64, candidates=(4, 8), days=4)


def _shop(folder: Path) -> None:
    shop.simulate(folder, users=80, items=60, seed=3)


def _views(folder: Path) -> None:
    views.simulate(folder, users=40, videos=30, rows=1_500, tasks=3, seed=3, heterogeneity=0.3)


def _appended(name: str, line: str) -> Callable[[Path], Path]:
    """Append a line to a file."""

    def spoil(folder: Path) -> Path:
        with (folder / name).open("a", encoding="utf-8") as file:
            file.write(line + "\n")
        return folder / name

    return spoil


def _emptied(name: str, column: str) -> Callable[[Path], Path]:
    """Take one value out of a table."""

    def spoil(folder: Path) -> Path:
        table = pl.read_parquet(folder / name).with_row_index("place")
        kept = pl.when(pl.col("place") != 5).then(pl.col(column)).alias(column)
        table.with_columns(kept).drop("place").write_parquet(folder / name)
        return folder / name

    return spoil


def _shop_with(change: Change) -> Write:
    """Write a shop's log with its table changed."""
    return _changed(_shop, "interactions.parquet", change)


def _views_with(change: Change) -> Write:
    """Write a log of views with its table changed."""
    return _changed(_views, "simulated-views.parquet", change)


def _changed(write: Write, name: str, change: Change) -> Write:
    def written(folder: Path) -> None:
        write(folder)
        change(pl.read_parquet(folder / name)).write_parquet(folder / name)

    return written


def _without_impressions(folder: Path) -> None:
    _news(folder)
    for file in folder.glob("*/behaviors.tsv"):
        file.write_text("", encoding="utf-8")


def _all_shown_alike(clicked: int) -> Write:
    """Write a site on which nothing is clicked, or everything that is shown."""

    def written(folder: Path) -> None:
        _news(folder)
        for file in folder.glob("*/behaviors.tsv"):
            text = file.read_text(encoding="utf-8")
            file.write_text(text.replace(f"-{1 - clicked}", f"-{clicked}"), encoding="utf-8")

    return written


def _without_sentences(folder: Path) -> None:
    write_course(folder)
    for file in folder.glob("*train*"):
        file.write_text("", encoding="utf-8")


def _one_feeling(folder: Path) -> None:
    write_course(folder)
    rows = [(*row[:2], 3) for row in sentiments(20)]
    (folder / "ids-sst-train.csv").write_text(lines(rows, ("id", "sentence", "sentiment")), encoding="utf-8")


def _one_likeness(folder: Path) -> None:
    write_course(folder)
    rows = [(*row[:3], 2.5) for row in pairs(20)]
    header = ("id", "sentence1", "sentence2", "similarity")
    (folder / "sts-train.csv").write_text(lines(rows, header), encoding="utf-8")


def _recommended(**asked: object) -> Ask:
    """Ask for recommendations."""
    top = asked.pop("top", 3)
    return lambda run: api.recommend(run, Question(**asked), top=top)


_NO_SPLIT = (lambda run: counterpoint.evaluate(run, split="tset"), "'tset' (did you mean 'test'?)")

CASES = (
    Case(
        "news",
        "mtrec",
        ("encoder.dropout=0.1", "training.batch_size=8", "training.epochs=1"),
        encodes=True,
        write=_news,
        spoil=_appended("train/behaviors.tsv", "99999\tU1\tnever\t\tN1-1 N2-0"),
        hopeless={
            "no rows": (_without_impressions, "behaviors.tsv"),
            "no clicks": (_all_shown_alike(0), "no clicks at all"),
            "one class": (
                _all_shown_alike(1),
                "no click in split 'train' has a known article",
            ),
        },
        wrong={
            "split": _NO_SPLIT,
            "article": (_recommended(history=["N0815"]), "no article 'N0815'"),
            "candidate": (_recommended(candidates=["N0815"]), "no article 'N0815'"),
            "nothing": (_recommended(candidates=[]), "nothing to rank"),
            "top": (_recommended(top=0), "ask for at least 1"),
            "user": (_recommended(user="U1"), "user: of no use here; this run takes article"),
        },
    ),
    Case(
        "behaviors",
        "metabalance",
        (
            "training.epochs=2",
            "training.batch_size=1024",
            "network.size=8",
            "network.mlp=[8, 4]",
            "network.towers=[8]",
            "data.least_bought=2",
            "data.least_buyers=2",
        ),
        encodes=False,
        write=_shop,
        spoil=_emptied("interactions.parquet", "item"),
        hopeless={
            "no rows": (_shop_with(pl.DataFrame.clear), "the log has no rows"),
            "no clicks": (
                _shop_with(lambda log: log.filter(pl.col("behavior") != "buy")),
                "not a single row of 'buy', the target",
            ),
            "one class": (
                _shop_with(lambda log: log.filter(pl.col("behavior") == "buy")),
                "not a single row of 'click', a task of the recipe",
            ),
        },
        wrong={
            "split": _NO_SPLIT,
            "user": (_recommended(user="nobody"), "no user 'nobody'"),
            "nobody": (_recommended(), "user: missing"),
            "top": (_recommended(user="0", top=0), "ask for at least 1"),
            "history": (_recommended(history=["1"]), "history: of no use here; this run takes user"),
        },
    ),
    Case(
        "feedback",
        "gradcraft",
        (
            "data.core=3",
            "training.epochs=2",
            "training.batch_size=256",
            "network.experts=[16,8]",
            "network.towers=[8]",
            "network.embedding=4",
            "network.initial=xavier",
            # What is left out changes from view to view; all this is of the user or of the video.
            'columns.ids=["user", "video", "author", "topic"]',
            'columns.numbers=["duration"]',
            'columns.lists=["tags"]',
        ),
        encodes=False,
        write=_views,
        spoil=_emptied("simulated-views.parquet", "video"),
        hopeless={
            "no rows": (_views_with(pl.DataFrame.clear), "the log has no rows"),
            "no clicks": (
                _views_with(lambda log: log.with_columns(pl.col("^label_.*$") * 0)),
                "the label 'effective_view' is 0 in all training rows",
            ),
            "one class": (
                _views_with(lambda log: log.with_columns(pl.lit(1).alias("label_like"))),
                "the label 'like' is 1 in all training rows",
            ),
        },
        wrong={
            "split": _NO_SPLIT,
            "user": (_recommended(user="nobody"), "no user 'nobody'"),
            "nobody": (_recommended(), "user: missing"),
            "label": (
                _recommended(user="0", by="lik"),
                "does not predict 'lik' (did you mean 'like'?)",
            ),
            "top": (_recommended(user="0", top=0), "ask for at least 1"),
        },
    ),
    Case(
        "sentences",
        "minbert-final",
        ("encoder.dropout=0.1", "data.max_tokens=24", "training.batch_size=8"),
        encodes=True,
        write=write_course,
        spoil=_appended("ids-sst-train.csv", "48\tx\tA fine film .\t9"),
        hopeless={
            "no rows": (_without_sentences, "the file is empty"),
            "one class": (_one_feeling, "the task 'sentiment' has the answer 3 in all training rows"),
            "one score": (_one_likeness, "the task 'similarity' has the answer 2.5 in all training rows"),
        },
        wrong={
            "split": _NO_SPLIT,
            "task": (
                lambda run: counterpoint.load(run).answers("sentimant", ["A film ."]),
                "no task is called 'sentimant' (did you mean 'sentiment'?)",
            ),
            "nothing": (lambda run: counterpoint.load(run).embed([]), "no sentence is given"),
            "empty": (lambda run: counterpoint.load(run).similarity("A film .", " "), "sentence 1 is empty"),
        },
    ),
)
