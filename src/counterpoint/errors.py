"""Errors a user can act on: one sentence that names the file, the row, the field and the remedy."""

import difflib
from collections.abc import Iterable
from pathlib import Path


class CounterpointError(Exception):
    """Something went wrong that the user can put right; the command line prints it without a traceback."""

    exit_code = 1


class UsageError(CounterpointError):
    """The command or the recipe was written wrongly."""

    exit_code = 2


class ArgumentError(UsageError):
    """An argument has a value that is of no use; on the command line it is the option of that name.

    Attributes:
        argument: its name in Python.
        problem: what is wrong and what to do, without a full stop.
    """

    def __init__(self, argument: str, problem: str) -> None:
        self.argument, self.problem = argument, problem
        super().__init__(f"{argument}: {problem}.")


class NoDataError(UsageError):
    """Nothing that the recipe's workload reads is in the place that was named."""


class BadRowError(CounterpointError):
    """One row of an input file is malformed.

    Attributes:
        file: the file the row stands in.
        line: its line, counted from 1 (for Parquet: its row).
        field: the column at fault.
    """

    def __init__(self, file: Path, line: int, field: str, problem: str, remedy: str) -> None:
        self.file, self.line, self.field = file, line, field
        super().__init__(f"{file}, line {line}, field {field!r}: {problem}; {remedy}.")


def on_one_line(error: Exception) -> str:
    """Return what an exception of another library says, without its line breaks."""
    return " ".join(str(error).split())


def nearest(name: str, known: Iterable[str]) -> str:
    """Return `` (did you mean 'x'?)`` for the closest known name, or nothing when none is close."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""
