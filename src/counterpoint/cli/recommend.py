"""``counterpoint recommend``."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from counterpoint.cli import options, show
from counterpoint.errors import UsageError

_TAKES = {
    "news": ("article", "candidates", "history"),
    "behaviors": ("user",),
    "feedback": ("user", "by"),
}
"""The options that say what is asked of a run, by its workload."""

_TAKES_OF_ALL = ("by",)
"""Those of them that have a meaning with ``--all``."""


def recommend(
    run: options.RunFolder,
    history: Annotated[
        str | None,
        typer.Option(help="News: clicked articles, oldest first: ID,ID,… Default: none, a new reader."),
    ] = None,
    candidates: Annotated[
        str | None,
        typer.Option(help="News: articles to rank: ID,ID,… Default: those shown on the data's last day."),
    ] = None,
    article: Annotated[
        list[str] | None,
        typer.Option(metavar="ID=TITLE", help="News: an article that the data does not have; repeat."),
    ] = None,
    user: Annotated[
        str | None, typer.Option(help="Behaviours, feedback: whom to recommend items to.")
    ] = None,
    by: Annotated[
        str | None, typer.Option(help="Feedback: the label whose probability ranks. Default: the first.")
    ] = None,
    everybody: Annotated[
        bool, typer.Option("--all", help="For everybody in the data, as a Parquet file (--out).")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="The file that --all writes. Default: recommendations.parquet.")
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="How many to show.")] = 10,
    data: options.Data = None,
    json: options.Json = None,
) -> None:
    """Rank articles for one reader and say which clicks speak for each, or items for one user, or for all.

    \b
    Example: counterpoint recommend runs/mtrec-seed0 --history N55528,N19639 --article new="Tram line opens"
    Example: counterpoint recommend runs/metabalance-seed0 --user 1011
    Example: counterpoint recommend runs/metabalance-seed0 --all --top 20 --out recommendations.parquet
    Example: counterpoint recommend runs/gradcraft-seed0 --user 1011 --by like
    """
    from counterpoint import api
    from counterpoint.runs.folder import Run
    from counterpoint.storage.files import write_json

    workload = Run.open(run).facts["workload"]
    if workload == "sentences":
        raise UsageError(
            f"{run}: a run of sentences recommends nothing; counterpoint embed RUN FILE writes vectors."
        )
    of_news = workload == "news"
    given = {"article": article, "by": by, "candidates": candidates, "history": history, "user": user}
    takes = [each for each in _TAKES[workload] if not everybody or each in _TAKES_OF_ALL]
    for option, value in given.items():
        if value is not None and option not in takes:
            known = ", ".join(f"--{each}" for each in takes)
            remedy = "leave it out with --all" if everybody else f"this run takes {known}"
            raise UsageError(f"--{option}: of no use here; {remedy}.")
    target = _target(everybody, out, json)
    ranked_by = {} if by is None else {"by": by}
    if everybody:
        with show.progress() as progress:
            rows = api.recommend_all(run, out=target, data=data, top=top, progress=progress, **ranked_by)
        show.say(f"written: {rows:,} rows in {target}")
        return
    if of_news:
        asked: dict[str, Any] = {
            "history": _ids(history or ""),
            "candidates": None if candidates is None else _ids(candidates),
            "articles": _titles(article or []),
        }
    elif user is not None:
        asked = {"user": user, **ranked_by}
    else:
        raise UsageError("--user is missing: whom to recommend items to; or ask for --all.")
    ranked = api.load(run, data=data).recommend(**asked, top=top)
    if json is not None:
        subject = "history" if of_news else "user"
        told = [asdict(one) for one in ranked]
        write_json(json, {subject: asked[subject], "recommendations": told})
    for place, one in enumerate(ranked, 1):
        print(f"{place:3}. {one}")


def _target(everybody: bool, out: Path | None, json: Path | None) -> Path:
    """Return the file that ``--all`` writes; refuse files that would not be written."""
    if everybody and json is not None:
        raise UsageError("--json: of no use here; --all writes Parquet to --out.")
    if not everybody and out is not None:
        raise UsageError("--out: of no use here; it goes with --all, and --json writes one answer.")
    target = out or Path("recommendations.parquet")
    if target.suffix != ".parquet":
        raise UsageError(f"--out {target}: --all writes Parquet; end the name in .parquet.")
    return target


def _titles(entries: list[str]) -> dict[str, str]:
    """Return the titles of new articles by id."""
    titles: dict[str, str] = {}
    for entry in entries:
        identifier, equals, title = entry.partition("=")
        if not equals or not identifier or not title:
            raise typer.BadParameter(f"{entry!r} is not written ID=TITLE", param_hint="--article")
        titles[identifier] = title
    return titles


def _ids(text: str) -> list[str]:
    """Return ids separated by commas or spaces."""
    return text.replace(",", " ").split()
