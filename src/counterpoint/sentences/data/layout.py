"""Finding the files of each task in a folder."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from counterpoint.errors import UsageError
from counterpoint.sentences.recipe import SentencesRecipe, Task

SUFFIXES = (".csv", ".tsv", ".jsonl")


@dataclass(frozen=True)
class Files:
    """The files of one task.

    Attributes:
        train: one or several, whose rows follow one another; a trained model needs none.
        test: at most one.
        unlabelled: at most one.
    """

    train: Sequence[Path]
    test: Sequence[Path]
    unlabelled: Sequence[Path]


def find(
    data: Path, recipe: SentencesRecipe, format_name: str | None = None, *, trained: bool = False
) -> dict[str, Files]:
    """Return the files of each task of a recipe, by name and in alphabetical order.

    Args:
        data: the folder.
        recipe: whose tasks.
        format_name: none: sentences have one format alone.
        trained: there is a model already, so that no task needs training files; one without any file is left
            out.

    Raises:
        UsageError: ``data`` is no folder, a task has no training file or several to test on, no task has any
            file, or a format is asked for.
    """
    if format_name is not None:
        raise UsageError(
            f"--format {format_name}: sentences are read as CSV, TSV or JSON lines, by the files' names; "
            "leave it out."
        )
    if not data.is_dir():
        raise UsageError(f"{data}: no such folder; give the one that holds the tasks' files.")
    found = {name: _files(data, name, recipe.task[name], trained=trained) for name in sorted(recipe.tasks)}
    some = {name: files for name, files in found.items() if all_files({name: files})}
    if not some:
        tasks = [recipe.task[name] for name in found]
        patterns = ", ".join(
            pattern for task in tasks for pattern in (task.train, task.test, task.unlabelled)
        )
        raise UsageError(
            f"{data}: no file of any task, looked for {patterns} ({', '.join(SUFFIXES)}); bring one of them."
        )
    return some


def all_files(found: Mapping[str, Files]) -> list[Path]:
    """Return all files that preparation reads."""
    return [file for files in found.values() for file in (*files.train, *files.test, *files.unlabelled)]


def _files(data: Path, name: str, task: Task, *, trained: bool) -> Files:
    train = _matching(data, task.train)
    if not train and not trained:
        raise UsageError(
            f"{data}: no training file of the task {name!r}, looked for {task.train} "
            f"({', '.join(SUFFIXES)}); bring one, set task.{name}.train or leave the task out of tasks."
        )
    return Files(train, _only(data, task.test), _only(data, task.unlabelled))


def _only(data: Path, pattern: str) -> list[Path]:
    """Return the one file of a pattern, if there is any."""
    found = _matching(data, pattern)
    if len(found) > 1:
        names = ", ".join(file.name for file in found)
        raise UsageError(f"{data}: {len(found)} files fit {pattern} ({names}); keep one of them there.")
    return found


def _matching(data: Path, pattern: str) -> list[Path]:
    """Return the files of a pattern that can be read; its folder may be a whole path."""
    place = data / pattern
    return sorted(
        file for file in place.parent.glob(place.name) if file.is_file() and file.suffix in SUFFIXES
    )
