"""``counterpoint simulate``."""

from pathlib import Path
from typing import Annotated

import typer

from counterpoint.cli import show

simulate = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Write simulated data whose truth is known."
)


@simulate.callback()
def _simulate() -> None:
    """Write simulated data whose truth is known."""


@simulate.command()
def news(
    out: Annotated[Path, typer.Option(help="The folder to write.")],
    readers: Annotated[int, typer.Option(help="Readers.")] = 2_000,
    articles: Annotated[int, typer.Option(help="Articles.")] = 1_000,
    seed: Annotated[int, typer.Option(help="Seed of every random choice.")] = 0,
    days: Annotated[int, typer.Option(help="Days; the last one tests, the one before validates.")] = 6,
    category_strength: Annotated[float, typer.Option(help="How much categories drive clicks.")] = 1.0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")] = False,
) -> None:
    """Write a simulated news site in MIND's format, with the true click probabilities beside it.

    Example: counterpoint simulate news --readers 2000 --articles 1000 --seed 0 --out simulated-news
    """
    from counterpoint.news.simulate import simulate as write

    with show.progress() as progress:
        simulation = write(
            out,
            readers=readers,
            articles=articles,
            seed=seed,
            days=days,
            category_strength=category_strength,
            overwrite=overwrite,
            progress=lambda done, total: progress("simulating readers", done, total),
        )
    for name, count in simulation.counts.items():
        print(f"{count:>12,}  {name}")
    show.say(f"simulated data: {simulation.folder}")
