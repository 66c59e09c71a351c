"""``counterpoint recommend``."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from counterpoint.cli import options, show
from counterpoint.errors import UsageError


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
    user: Annotated[str | None, typer.Option(help="Behaviours: whom to recommend items to.")] = None,
    everybody: Annotated[
        bool, typer.Option("--all", help="For everybody in the data, as a Parquet file (--out).")
    ] = False,
    out: Annotated[Path, typer.Option(help="The file that --all writes.")] = Path("recommendations.parquet"),
    top: Annotated[int, typer.Option(min=1, help="How many to show.")] = 10,
    data: options.Data = None,
    json: options.Json = None,
) -> None:
    """Rank articles for one reader and say which clicks speak for each, or items for one user, or for all.

    \b
    Example: counterpoint recommend runs/mtrec-seed0 --history N55528,N19639 --article new="Tram line opens"
    Example: counterpoint recommend runs/metabalance-seed0 --user 1011
    Example: counterpoint recommend runs/metabalance-seed0 --all --top 20 --out recommendations.parquet
    """
    from counterpoint import api
    from counterpoint.files import write_json
    from counterpoint.run import Run

    of_news = Run.open(run).facts["workload"] == "news"
    asked = {
        name: value
        for name, value in {
            "history": None if history is None else _ids(history),
            "candidates": None if candidates is None else _ids(candidates),
            "articles": _titles(article) if article else None,
            "user": user,
        }.items()
        if value is not None
    }
    known = {"history", "candidates", "articles"} if of_news else {"user"}
    strange = sorted(set(asked) - (set() if everybody else known))
    if strange:
        option = strange[0].removesuffix("s") if strange[0] == "articles" else strange[0]
        remedy = (
            "leave it out"
            if everybody
            else f"this run takes {', '.join(f'--{each}' for each in sorted(known))}"
        )
        raise UsageError(f"--{option}: of no use here; {remedy}.")
    if everybody:
        with show.progress() as progress:
            rows = api.recommend_all(run, out=out, data=data, top=top, progress=progress)
        show.say(f"written: {rows:,} rows in {out}")
        return
    if not of_news and user is None:
        raise UsageError("--user is missing: whom to recommend items to; or ask for --all.")
    ranked = api.load(run, data=data).recommend(**asked, top=top)
    if json is not None:
        subject = {"history": asked.get("history", [])} if of_news else {"user": user}
        write_json(json, {**subject, "recommendations": [asdict(one) for one in ranked]})
    for place, one in enumerate(ranked, 1):
        print(f"{place:3}. {one}")


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
