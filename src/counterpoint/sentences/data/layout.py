"""Finding the files of each task in a folder."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from counterpoint.errors import NoDataError, UsageError
from counterpoint.sentences.data.formats import Format, sentences
from counterpoint.sentences.recipe import SentencesRecipe, Task


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
    data: Path, recipe: SentencesRecipe, *, form: Format = sentences.FORMAT, trained: bool = False
) -> dict[str, Files]:
    """Return the files of each task of a recipe, by name and in alphabetical order.

    Args:
        data: the folder.
        recipe: whose tasks.
        form: of the files.
        trained: there is a model already, so that no task needs training files; one without any file is left
            out.

    Raises:
        UsageError: ``data`` is no folder, a task has no training file or several to test on, or no task has
            any file.
    """
    if not data.is_dir():
        raise NoDataError(f"{data}: no such folder; give the one that holds the tasks' files.")
    found = {
        name: _files(data, name, recipe.task[name], form, trained=trained) for name in sorted(recipe.tasks)
    }
    some = {name: files for name, files in found.items() if all_files({name: files})}
    if not some:
        tasks = [recipe.task[name] for name in found]
        patterns = ", ".join(
            pattern for task in tasks for pattern in (task.train, task.test, task.unlabelled)
        )
        raise NoDataError(
            f"{data}: no file of any task, looked for {patterns} ({', '.join(form.suffixes)}); "
            "bring one of them."
        )
    return some


def all_files(found: Mapping[str, Files]) -> list[Path]:
    """Return all files that preparation reads."""
    return [file for files in found.values() for file in (*files.train, *files.test, *files.unlabelled)]


def _files(data: Path, name: str, task: Task, form: Format, *, trained: bool) -> Files:
    train = _matching(data, task.train, form)
    if not train and not trained:
        raise NoDataError(
            f"{data}: no training file of the task {name!r}, looked for {task.train} "
            f"({', '.join(form.suffixes)}); bring one, set task.{name}.train or leave the task out of tasks."
        )
    return Files(train, _only(data, task.test, form), _only(data, task.unlabelled, form))


def _only(data: Path, pattern: str, form: Format) -> list[Path]:
    """Return the one file of a pattern, if there is any."""
    found = _matching(data, pattern, form)
    if len(found) > 1:
        names = ", ".join(file.name for file in found)
        raise UsageError(f"{data}: {len(found)} files fit {pattern} ({names}); keep one of them there.")
    return found


def _matching(data: Path, pattern: str, form: Format) -> list[Path]:
    """Return the files of a pattern that can be read; its folder may be a whole path."""
    place = data / pattern
    return sorted(
        file for file in place.parent.glob(place.name) if file.is_file() and file.suffix in form.suffixes
    )
