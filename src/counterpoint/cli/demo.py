"""``make demo``: the main job from simulated readers to a report."""

import argparse
import shutil
import time
from pathlib import Path

from counterpoint.cli import show

TOLD = {
    "bert": "bert, which learns from clicks alone",
    "mtrec": "mtrec, which learns categories and entities too, without letting them drown the clicks",
}
RECIPES = tuple(TOLD)
SETTINGS = ("training.epochs=1",)


def main() -> None:
    """Simulate, prepare, train the baseline and MTRec, evaluate both, show one table and write the report."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder for data, runs and report")
    parser.add_argument("--readers", type=int, default=500)
    parser.add_argument("--articles", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    started = time.monotonic()
    show.say(
        f"1. Simulating {options.readers} readers of {options.articles} articles: clicks whose true "
        "probabilities are known"
    )

    from rich.console import Console

    from counterpoint import api
    from counterpoint.comparison.standing import standing
    from counterpoint.reporting.tables import terminal_table
    from counterpoint.runs.folder import ComparisonFolder
    from counterpoint.simulation.news.mind import simulate

    data, store = options.out / "simulated-news", options.out / "store"
    simulate(data, readers=options.readers, articles=options.articles, seed=options.seed, overwrite=True)
    evaluations = {}
    runs = [options.out / name for name in RECIPES]
    with show.progress() as progress:
        show.say("2. Preparing it: titles become tokens, clicks become arrays")
        api.prepare(data, out=store, progress=progress)
        for number, (name, run) in enumerate(zip(RECIPES, runs, strict=True), 3):
            begun = time.monotonic()
            show.say(f"{number}. Training {TOLD[name]}, then ranking the last day's impressions")
            shutil.rmtree(run, ignore_errors=True)
            api.train(name, data=store, out=run, seed=options.seed, settings=SETTINGS, progress=progress)
            evaluations[f"{name} (simulated data)"] = [api.evaluate(run, progress=progress)]
            show.say(f"   {name} took {time.monotonic() - begun:.0f} seconds")
    show.say(
        f"{len(RECIPES) + 3}. Drawing the report: losses, conflicts between tasks, metrics beside floors"
    )
    page = api.report(runs, out=ComparisonFolder(options.out).report)
    console = Console()
    console.print(terminal_table(standing(evaluations)))
    show.say(
        "All of this is simulated data; the optimum is the ranking by the true click probabilities.\n"
        f"report: {page}\ntook {(time.monotonic() - started) / 60:.1f} minutes"
    )


if __name__ == "__main__":
    main()
