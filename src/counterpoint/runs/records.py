"""What a run folder tells about its run: its evaluations as they are written, all else as it is read."""

import json
import tomllib
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import polars as pl
from jaxtyping import Float, Int
from pydantic import TypeAdapter, ValidationError

from counterpoint.errors import CounterpointError
from counterpoint.metrics.evaluated import Evaluated, Evaluation
from counterpoint.runs.folder import RunFolder
from counterpoint.storage.files import new_file, read_json, write_json

Content = TypeVar("Content")

_EVALUATION = TypeAdapter(Evaluation)
_FACTS = TypeAdapter(dict[str, Any])


@dataclass(frozen=True)
class Series:
    """One quantity over training.

    Attributes:
        steps: optimizer steps, rising.
        values: the finite values at these steps.
    """

    steps: Int[np.ndarray, " points"]
    values: Float[np.ndarray, " points"]


Log = Mapping[str, Mapping[str, Series]]
"""From the field of a log's lines to its entries; a field that is a plain number has one, named ``""``."""


@dataclass(frozen=True)
class RunRecord:
    """The files of one run folder; what is missing is empty.

    Attributes:
        folder: where they stand.
        name: of the recipe.
        recipe: the resolved recipe as TOML.
        settings: its tables.
        facts: what run.json says.
        training: losses and validation metrics, from metrics.jsonl.
        balance: norms, cosines, weights and conflict rate of the gradients, from balance.jsonl.
        evaluations: by split.
    """

    folder: Path
    name: str
    recipe: str
    settings: Mapping[str, Any]
    facts: Mapping[str, Any]
    training: Log
    balance: Log
    evaluations: Mapping[str, Evaluation]

    @property
    def seed(self) -> int | None:
        """The seed of the run, where it is recorded."""
        return self.facts.get("seed")


@dataclass(frozen=True)
class Group:
    """Runs of one recipe that differ in nothing but the seed.

    Attributes:
        label: the recipe's name, with the folder when several groups share it.
        runs: one or more.
    """

    label: str
    runs: Sequence[RunRecord]

    def name_of(self, run: RunRecord) -> str:
        """Return what tells one of the runs from all others of a report."""
        return self.label if len(self.runs) == 1 else f"{self.label}, seed {run.seed}"


def read_run(folder: Path) -> RunRecord:
    """Read the files of a run folder that are there.

    Raises:
        CounterpointError: the folder is no run folder, or one of its files is broken.
    """
    files = RunFolder(folder)
    facts = _validated(files.facts, _FACTS) if files.begun else {}
    recipe, settings = _read_recipe(files.recipe)
    run = RunRecord(
        folder=folder,
        name=str(facts.get("name") or settings.get("name") or folder.resolve().name),
        recipe=recipe,
        settings=settings,
        facts=facts,
        training=read_log(files.metrics),
        balance=read_log(files.balance),
        evaluations=_read_evaluations(files),
    )
    if not (run.facts or run.recipe or run.training or run.balance or run.evaluations):
        raise CounterpointError(
            f"{folder}: not the folder of a run; give the one that `train` wrote with --out."
        )
    return run


def read_log(path: Path) -> Log:
    """Read a log of one JSON object per line, keeping only numbers, column by column; without it, nothing.

    A run that was resumed may have logged a step twice: the later line is the one that counts.
    """
    columns: dict[tuple[str, str], tuple[array[int], array[float]]] = {}
    for line in _json_lines(path) if path.exists() else ():
        step = line.get("step")
        for field, entries in line.items():
            named = entries if isinstance(entries, dict) else {"": entries}
            for name, value in named.items():
                if isinstance(value, int | float) and isinstance(step, int) and field != "step":
                    steps, values = columns.setdefault((field, name), (array("q"), array("d")))
                    steps.append(step)
                    values.append(value)
    log: dict[str, dict[str, Series]] = {}
    for (field, name), (steps, values) in columns.items():
        series = _in_order(np.array(steps), np.array(values))
        if len(series.steps):
            log.setdefault(field, {})[name] = series
    return log


def write_evaluation(folder: Path, evaluated: Evaluated) -> None:
    """Keep an evaluation in its run: ``evaluation-SPLIT.json`` and, unit by unit, a table of that name.

    The table (Parquet) has the units' numbers in the split's order (``unit``) and a column for each metric,
    null where a unit is not scored. It is written first: where there is a record, there
    is its table.
    """
    split, files = evaluated.record["split"], RunFolder(folder)
    table = pl.DataFrame(evaluated.per_unit)
    table = table.with_columns(pl.all().fill_nan(None)).with_row_index("unit")
    with new_file(files.evaluated_units(split)) as file:
        table.write_parquet(file)
    write_json(files.evaluation(split), evaluated.record)


def read_per_unit(folder: Path, split: str) -> dict[str, Float[np.ndarray, " units"]]:
    """Return the metrics of every unit that `write_evaluation` kept, NaN where one is not scored.

    Raises:
        CounterpointError: they are missing or broken.
    """
    path = RunFolder(folder).evaluated_units(split)
    try:
        table = pl.read_parquet(path, glob=False)[:, 1:]  # the first are the units' numbers
    except (OSError, pl.exceptions.PolarsError) as error:
        reason = str(error).splitlines()[0]
        raise CounterpointError(
            f"{path}: missing or cut short ({reason}); run counterpoint evaluate {folder} --split {split}."
        ) from None
    return {column.name: column.cast(pl.Float64).fill_null(np.nan).to_numpy() for column in table}


def grouped(runs: Sequence[RunRecord]) -> list[Group]:
    """Put runs together that have one recipe but different seeds; any other run stands alone."""
    groups: dict[str, list[RunRecord]] = {}
    for run in runs:
        training = {key: value for key, value in run.settings.get("training", {}).items() if key != "seed"}
        same = json.dumps([run.name, {**run.settings, "training": training}], sort_keys=True, default=str)
        groups.setdefault(same, []).append(run)
    sets: list[list[RunRecord]] = []
    for members in groups.values():
        seeds = {run.seed for run in members}
        # One seed twice is no second observation, so such runs are shown singly.
        apart = len(seeds) < len(members) or None in seeds
        sets.extend([[run] for run in members] if apart else [members])
    names = [members[0].name for members in sets]
    return [
        Group(name if names.count(name) == 1 else f"{name} ({members[0].folder})", members)
        for name, members in zip(names, sets, strict=True)
    ]


def _read_recipe(path: Path) -> tuple[str, dict[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        return text, tomllib.loads(text)
    except ValueError as error:
        raise CounterpointError(f"{path}: not valid TOML ({error}); correct that line.") from None


def _in_order(steps: Int[np.ndarray, " points"], values: Float[np.ndarray, " points"]) -> Series:
    finite = np.isfinite(values)
    latest_first, values = steps[finite][::-1], values[finite][::-1]
    steps, first = np.unique(latest_first, return_index=True)
    return Series(steps, values[first])


def _json_lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                content = json.loads(line)
            except ValueError as error:
                raise CounterpointError(
                    f"{path}, line {number}: not valid JSON ({error}); remove that line."
                ) from None
            if not isinstance(content, dict):
                raise CounterpointError(f"{path}, line {number}: not a JSON object; remove that line.")
            yield content


def _read_evaluations(files: RunFolder) -> dict[str, Evaluation]:
    """Read every evaluation by its split."""
    read = (_validated(path, _EVALUATION) for path in files.evaluations())
    return {evaluation.get("split", "test"): evaluation for evaluation in read}


def _validated(path: Path, kind: TypeAdapter[Content]) -> Content:
    try:
        return kind.validate_python(read_json(path))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "the whole"
        raise CounterpointError(f"{path}, field {field}: {first['msg']}; write the file again.") from None
