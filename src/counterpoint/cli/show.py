"""Showing progress and results in the terminal."""

import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

from counterpoint.errors import CounterpointError
from counterpoint.progress import Progress

if TYPE_CHECKING:
    from counterpoint.workload import Store

_SECONDS_BETWEEN_LINES = 15.0


@contextmanager
def progress(*, interrupted: str = "nothing half-written was left behind") -> Iterator[Progress]:
    """Yield a progress function: bars with the time left in a terminal, now and then a line elsewhere.

    Args:
        interrupted: what to tell a user who stops the work.
    """
    try:
        if sys.stderr.isatty():
            with _bars() as bars:
                yield bars
        else:
            yield _lines()
    except KeyboardInterrupt:
        raise CounterpointError(f"interrupted; {interrupted}.") from None


def resumable() -> AbstractContextManager[Progress]:
    """Return a progress function, as `progress` does, for a command that finds its own unfinished work."""
    return progress(interrupted="the same command goes on where it stopped")


@contextmanager
def _bars() -> Iterator[Progress]:
    """Yield a function that moves one bar for each kind of work."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    tasks: dict[str, int] = {}
    with Bars(*columns, console=Console(stderr=True)) as bars:

        def move(label: str, done: int, total: int) -> None:
            if label not in tasks:
                tasks[label] = bars.add_task(label, total=total)
            elif bars.tasks[bars.task_ids.index(tasks[label])].finished:  # type: ignore[arg-type]
                bars.reset(tasks[label], total=total)  # type: ignore[arg-type]
            bars.update(tasks[label], completed=done, total=total)  # type: ignore[arg-type]

        yield move


def _lines() -> Progress:
    """Return a function that prints a line when some time has passed since the last."""
    started: dict[str, tuple[float, int]] = {}
    latest: dict[str, int] = {}
    last = [time.monotonic()]

    def line(label: str, done: int, total: int) -> None:
        now = time.monotonic()
        if done <= latest.get(label, done):  # the first we hear of it, or it begins anew
            started[label] = now, done
        latest[label] = done
        since, first = started[label]
        if now - last[0] > _SECONDS_BETWEEN_LINES and done > first:
            last[0] = now
            left = (now - since) / (done - first) * (total - done)
            print(f"{label}: {done} of {total}, about {left / 60:.1f} min left", file=sys.stderr, flush=True)

    return line


def set_aside(store: "Store") -> None:
    """Tell how many malformed rows a store was made without, and where they are, if there were any."""
    aside = store.manifest["counts"]["bad rows set aside"]
    if aside:
        say(f"{aside} malformed rows were set aside in {store.path / 'bad_rows.jsonl'}")


def say(text: str) -> None:
    """Print a sentence for people to standard error, so that standard output stays clean for data."""
    print(text, file=sys.stderr, flush=True)
