"""``counterpoint simulate``."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from counterpoint.cli import options, show
from counterpoint.errors import UsageError
from counterpoint.progress import Progress
from counterpoint.simulation.result import Simulation

simulate = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Write simulated data whose truth is known."
)


@simulate.callback()
def _simulate() -> None:
    """Write simulated data whose truth is known."""


@simulate.command()
def news(
    out: options.SimulatedFolder,
    readers: options.Readers = 2_000,
    articles: options.Articles = 1_000,
    seed: options.SimulationSeed = 0,
    days: Annotated[int, typer.Option(help="Days; the last one tests, the one before validates.")] = 6,
    category_strength: options.CategoryStrength = 1.0,
    overwrite: options.Overwrite = False,
) -> None:
    """Write a simulated news site in MIND's format, with the true click probabilities beside it.

    Example: counterpoint simulate news --readers 2000 --articles 1000 --seed 0 --out simulated-news
    """
    from counterpoint.simulation.news.mind import simulate as write

    _write(
        lambda progress: write(
            out,
            readers=readers,
            articles=articles,
            seed=seed,
            days=days,
            category_strength=category_strength,
            overwrite=overwrite,
            progress=progress,
        )
    )


@simulate.command()
def ebnerd(
    context: typer.Context,
    out: options.SimulatedFolder,
    like: Annotated[
        Path | None, typer.Option(help="A real bundle without articles: simulate only those, for its ids.")
    ] = None,
    readers: options.Readers = 1_500,
    articles: options.Articles = 800,
    seed: options.SimulationSeed = 0,
    days: Annotated[int, typer.Option(help="Days; the last quarter is the validation folder.")] = 8,
    test_impressions: Annotated[int, typer.Option(help="Impressions of a test folder without clicks.")] = 0,
    category_strength: options.CategoryStrength = 1.0,
    sentiment_strength: Annotated[float, typer.Option(help="How much the titles' sentiment does.")] = 1.0,
    overwrite: options.Overwrite = False,
) -> None:
    """Write a simulated EB-NeRD bundle, or simulated articles for a real one that has none.

    A wholly simulated bundle has the true click probabilities beside it. With --like, the logs are those of
    the real bundle and the articles, being random, tell nothing about its clicks.

    Example: counterpoint simulate ebnerd --readers 1500 --articles 800 --seed 0 --out simulated-ebnerd
    """
    from counterpoint.simulation.news.ebnerd import simulate_articles_like, simulate_ebnerd

    if like is not None:
        bundle = like
        _must_be_default(context, {"like", "out", "seed", "overwrite"})
        _write(
            lambda progress: simulate_articles_like(
                bundle, out, seed=seed, overwrite=overwrite, progress=progress
            )
        )
        return
    _write(
        lambda progress: simulate_ebnerd(
            out,
            readers=readers,
            articles=articles,
            seed=seed,
            days=days,
            test_impressions=test_impressions,
            category_strength=category_strength,
            sentiment_strength=sentiment_strength,
            overwrite=overwrite,
            progress=progress,
        )
    )


@simulate.command()
def behaviors(
    out: options.SimulatedFolder,
    users: options.Users = 2_000,
    items: Annotated[int, typer.Option(help="Items.")] = 1_500,
    seed: options.SimulationSeed = 0,
    days: options.Days = 14,
    interactions_per_user: Annotated[float, typer.Option(help="Mean number of rows of a user.")] = 120.0,
    click_relevance: Annotated[
        float,
        typer.Option(help="1: clicks come from the taste that purchases come from; 0: from another one."),
    ] = 0.5,
    overwrite: options.Overwrite = False,
) -> None:
    """Write a simulated shop's log of clicks, favourites, carts and buys, with the truth beside it.

    Purchases are the same whatever --click-relevance: it decides only whether clicks help to predict them.

    Example: counterpoint simulate behaviors --users 2000 --items 1500 --seed 0 --out simulated-shop
    """
    from counterpoint.simulation.shop.log import simulate as write

    _write(
        lambda progress: write(
            out,
            users=users,
            items=items,
            seed=seed,
            days=days,
            interactions_per_user=interactions_per_user,
            click_relevance=click_relevance,
            overwrite=overwrite,
            progress=progress,
        )
    )


@simulate.command()
def feedback(
    out: options.SimulatedFolder,
    users: options.Users = 2_000,
    videos: Annotated[int, typer.Option(help="Videos.")] = 1_500,
    rows: Annotated[int, typer.Option(help="Views, on average.")] = 100_000,
    tasks: Annotated[int, typer.Option(help="Labels, from 2 to 8: half about watching, half engaging.")] = 6,
    seed: options.SimulationSeed = 0,
    days: options.Days = 14,
    relatedness: Annotated[
        float,
        typer.Option(help="Of the reasons to watch and to engage: 1 the same, 0 unrelated, -1 opposite."),
    ] = 0.5,
    conflict: Annotated[
        float, typer.Option(help="How far the luck of the two excludes each other, from 0 to 1.")
    ] = 0.5,
    heterogeneity: Annotated[
        float, typer.Option(help="Of the labels' rates: 0 all are 0.4, 1 they fall to 0.008.")
    ] = 0.7,
    overwrite: options.Overwrite = False,
) -> None:
    """Write a simulated log of short videos with several labels a view and their true probabilities.

    Example: counterpoint simulate feedback --users 2000 --videos 1500 --rows 100000 --out simulated-videos
    """
    from counterpoint.simulation.views.log import simulate as write

    _write(
        lambda progress: write(
            out,
            users=users,
            videos=videos,
            rows=rows,
            tasks=tasks,
            seed=seed,
            days=days,
            relatedness=relatedness,
            conflict=conflict,
            heterogeneity=heterogeneity,
            overwrite=overwrite,
            progress=progress,
        )
    )


def _write(simulation: Callable[[Progress], Simulation]) -> None:
    """Simulate under a progress bar and tell what was written."""
    with show.progress() as progress:
        written = simulation(progress)
    for name, count in written.counts.items():
        print(f"{count:>12,}  {name}")
    show.say(f"simulated data: {written.folder}")


def _must_be_default(context: typer.Context, allowed: set[str]) -> None:
    """Refuse options that would be ignored."""
    for name in context.params:
        source = context.get_parameter_source(name)
        if name not in allowed and source is not None and source.name == "COMMANDLINE":
            option = name.replace("_", "-")
            raise UsageError(f"--{option}: of no use with --like, whose logs are given; leave it out.")
