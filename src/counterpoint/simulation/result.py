"""What the simulations of all workloads share: their result, and the checks before anything is written."""

from dataclasses import dataclass
from pathlib import Path

from counterpoint.errors import UsageError


@dataclass(frozen=True)
class Simulation:
    """What was written: the folder, and how many of everything it holds."""

    folder: Path
    counts: dict[str, int]


def at_least(option: str, value: float, smallest: float) -> None:
    """Raise a ``UsageError`` if the option's value is below the smallest allowed, or not a number."""
    if not value >= smallest:
        raise UsageError(f"{option} is {value}; give at least {smallest}.")


def between(option: str, value: float, smallest: float, largest: float) -> None:
    """Raise a ``UsageError`` if the option's value is outside of what is allowed, or not a number."""
    if not smallest <= value <= largest:
        raise UsageError(f"{option} is {value}; give a number from {smallest} to {largest}.")


def must_be_free(out: Path, overwrite: bool) -> None:
    """Raise a ``UsageError`` if ``out`` is a file, or a folder with something in it that must stay."""
    if out.is_file() or (not overwrite and out.is_dir() and any(out.iterdir())):
        raise UsageError(f"{out}: something is there already; choose another folder or allow overwriting.")
