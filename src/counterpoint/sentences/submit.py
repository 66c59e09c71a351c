"""Predictions in the course's form: a file for each task and split, read back and checked."""

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from counterpoint.capabilities import Submission
from counterpoint.errors import CounterpointError, UsageError
from counterpoint.progress import Progress
from counterpoint.sentences.data.store import Rows, Store
from counterpoint.sentences.evaluate import by_unit, rows_of, set_aside
from counterpoint.sentences.model import SentenceModel
from counterpoint.sentences.recipe import BUILT_IN, SentencesRecipe, Task
from counterpoint.sentences.scoring import Answers, answers
from counterpoint.storage.files import new_file, new_folder

_COURSE = {"test": "dev", "unlabelled": "test"}
"""What the course calls a split; its test has no labels that are given out."""


def write_submission(
    model: SentenceModel,
    recipe: SentencesRecipe,
    store: Store,
    split: str | None,
    out: Path,
    progress: Progress,
) -> Submission:
    """Write ``NAME-dev-output.csv`` and ``NAME-test-output.csv`` of every task, and read them back.

    Those of tasks of one's own are called as the splits are: ``NAME-test-…`` and ``NAME-unlabelled-…``.
    A file begins with ``id``, a tab and the name of the answer; each line is an id, a comma and the answer,
    with spaces around the comma, in the order of the data.

    Args:
        model: the model.
        recipe: it was trained with.
        store: whose rows are answered.
        split: one split; by default the one to test on and the unlabelled one, as far as they have rows.
        out: a zip if it ends in .zip, else a folder.
        progress: told how many sentences are encoded.

    Raises:
        UsageError: no such split, it has no rows, or ``out`` is a folder with something in it.
        CounterpointError: what is read back is not what was written.
    """
    wanted = (split,) if split else ("test", "unlabelled")
    # Asked for by name, an empty split is an error; by default, whatever has rows is written.
    found = {each: rows_of(recipe, store, each) for each in wanted if split or _has_rows(recipe, store, each)}
    if not found:
        raise UsageError(f"{store.path}: no rows in the splits test and unlabelled; bring their files.")
    given = {each: answers(model, store, recipe.task, rows, progress) for each, rows in found.items()}
    written = {
        file_name(name, recipe.task[name], each): _text(recipe.task[name], of_task, given[each][name])
        for each, rows in found.items()
        for name, of_task in rows.items()
    }
    _write(out, written)
    answered = 0
    metrics: dict[str, float] = {}
    for each, rows in found.items():
        read = {name: _read_back(recipe, name, of_task, each, out, written) for name, of_task in rows.items()}
        answered += sum(map(len, rows.values()))
        if each != "unlabelled":
            metrics |= {
                name: float(np.nanmean(values)) for name, values in by_unit(recipe, rows, read).items()
            }
    notes = set_aside(recipe, store, tuple(found))
    return Submission(out, " and ".join(found), answered, "answers", metrics, notes)


def file_name(name: str, task: Task, split: str) -> str:
    """Return what the file of a task's answers is called: the course's own tasks as the course has it."""
    called = _COURSE.get(split, split) if name in BUILT_IN else split
    return f"{task.predictions}-{called}-output.csv"


def read_predictions(place: Path, name: str) -> list[tuple[str, float]]:
    """Return the ids and answers of a file of predictions in a zip or a folder.

    Raises:
        CounterpointError: it is not there, or a line of it is malformed.
    """
    try:
        if place.is_dir():
            text = (place / name).read_text(encoding="utf-8")
        else:
            with zipfile.ZipFile(place) as archive:
                text = archive.read(name).decode("utf-8")
    except (OSError, KeyError, UnicodeDecodeError, zipfile.BadZipFile) as error:
        raise CounterpointError(
            f"{place}: no predictions {name} in it ({error}); write them again."
        ) from error
    return _parsed(text, f"{place}, {name}")


def _has_rows(recipe: SentencesRecipe, store: Store, split: str) -> bool:
    return any(len(store.rows(name, split)) for name in store.tasks if name in recipe.tasks)


def _text(task: Task, rows: Rows, given: Answers) -> str:
    """Return a file of predictions; as the course has it, two classes of pairs are written 0.0 and 1.0."""
    whole = task.classes is not None and (task.sides == 1 or task.classes > 2)
    told = [str(int(value)) if whole else repr(float(value)) for value in given.values]
    lines = (f"{identifier} , {answer} \n" for identifier, answer in zip(rows.ids, told, strict=True))
    return f"id \t {task.column} \n" + "".join(lines)


def _write(out: Path, files: Mapping[str, str]) -> None:
    """Write files of predictions into a zip or a folder, all of them or none."""
    if out.suffix == ".zip":
        with new_file(out) as path, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, text in files.items():
                archive.writestr(name, text)
        return
    if out.exists() and not (out.is_dir() and {each.name for each in out.iterdir()} <= files.keys()):
        raise UsageError(f"{out}: there is something else already; choose another place.")
    with new_folder(out) as folder:
        for name, text in files.items():
            (folder / name).write_text(text, encoding="utf-8")


def _read_back(
    recipe: SentencesRecipe, name: str, rows: Rows, split: str, out: Path, written: Mapping[str, str]
) -> Answers:
    """Return the answers of one file as they stand there, if it is the one that was written."""
    file = file_name(name, recipe.task[name], split)
    read = read_predictions(out, file)
    if read != _parsed(written[file], file) or [identifier for identifier, _ in read] != rows.ids.to_list():
        raise CounterpointError(
            f"{out}: {file} reads back differently from what was written; check the disk and write it again."
        )
    return Answers(np.array([answer for _, answer in read]))


def _parsed(text: str, place: str) -> list[tuple[str, float]]:
    """Return ids and answers; the first line names the columns."""
    found = []
    for number, line in enumerate(text.removesuffix("\n").split("\n")[1:], 2):
        identifier, comma, answer = line.rpartition(" , ")
        try:
            if not comma:
                raise ValueError
            found.append((identifier, float(answer)))
        except ValueError:
            raise CounterpointError(
                f"{place}, line {number}: not an id, a comma and an answer; write the predictions again."
            ) from None
    return found
