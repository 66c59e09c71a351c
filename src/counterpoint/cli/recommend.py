"""``counterpoint recommend``."""

from dataclasses import asdict
from typing import Annotated

import typer

from counterpoint.cli import options


def recommend(
    run: options.RunFolder,
    history: Annotated[
        str, typer.Option(help="Clicked articles, oldest first: ID,ID,… Empty: a new reader.")
    ] = "",
    candidates: Annotated[
        str | None,
        typer.Option(help="Articles to rank: ID,ID,… Default: those shown on the data's last day."),
    ] = None,
    article: Annotated[
        list[str] | None,
        typer.Option(metavar="ID=TITLE", help="An article that the data does not have; repeat."),
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="How many to show.")] = 10,
    data: options.Data = None,
    json: options.Json = None,
) -> None:
    """Rank articles for one reader and say which clicks speak for each.

    Example: counterpoint recommend runs/mtrec-seed0 --history N55528,N19639 --article new="Tram line opens"
    """
    from counterpoint import api
    from counterpoint.files import write_json

    titles = {}
    for entry in article or []:
        identifier, equals, title = entry.partition("=")
        if not equals or not identifier or not title:
            raise typer.BadParameter(f"{entry!r} is not written ID=TITLE", param_hint="--article")
        titles[identifier] = title
    ranked = api.load(run, data=data).recommend(
        history=_ids(history),
        candidates=None if candidates is None else _ids(candidates),
        articles=titles,
        top=top,
    )
    if json is not None:
        write_json(json, {"history": _ids(history), "recommendations": [asdict(one) for one in ranked]})
    for place, one in enumerate(ranked, 1):
        print(f"{place:3}. {one.article}  {one.title}  ({one.score:.3f})")
        for reason in one.because:
            print(f"       {reason.attention:4.0%} of the attention: {reason.article}  {reason.title}")


def _ids(text: str) -> list[str]:
    """Return ids separated by commas or spaces."""
    return text.replace(",", " ").split()
