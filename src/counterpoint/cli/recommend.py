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
    from counterpoint.capabilities import Question
    from counterpoint.storage.files import write_json

    question = Question(
        history=None if history is None else _ids(history),
        candidates=None if candidates is None else _ids(candidates),
        article=_titles(article) if article else None,
        user=user,
        by=by,
    )
    target = _target(everybody, out, json)
    if everybody:
        with show.progress() as progress:
            rows = api.recommend_all(
                run, out=target, data=data, top=top, question=question, progress=progress
            )
        show.say(f"written: {rows:,} rows in {target}")
        return
    with show.progress() as progress:
        ranked = api.recommend(run, question, data=data, top=top, progress=progress)
    if json is not None:
        subject = {"history": question.history or []} if user is None else {"user": user}
        write_json(json, {**subject, "recommendations": [asdict(one) for one in ranked]})
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
