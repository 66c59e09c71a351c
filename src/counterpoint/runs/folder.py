"""The run folder: what a run was told, did and learned; no other module knows its files by name."""

import importlib.metadata
import os
import platform
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from counterpoint.errors import CounterpointError, UsageError
from counterpoint.runs.recipe import Recipe, to_toml
from counterpoint.storage.files import disk_errors, new_file, read_json, write_json

FORMAT = 2
_MISSING = object()
_PACKAGES = ("counterpoint", "torch", "transformers", "accelerate", "polars", "numpy", "safetensors")


@dataclass(frozen=True)
class RunFolder:
    """The files of a run by what they are, whether they are there or not.

    Attributes:
        path: the folder.
    """

    path: Path

    @property
    def recipe(self) -> Path:
        """The resolved recipe."""
        return self.path / "recipe.toml"

    @property
    def facts(self) -> Path:
        """What the run was given, what it cost and what it reached; a run has begun when it is there."""
        return self.path / "run.json"

    @property
    def metrics(self) -> Path:
        """The log of losses and validations."""
        return self.path / "metrics.jsonl"

    @property
    def balance(self) -> Path:
        """The log of what the tasks' gradients did to each other."""
        return self.path / "balance.jsonl"

    @property
    def checkpoints(self) -> Path:
        """What training goes on from."""
        return self.path / "checkpoints"

    @property
    def model(self) -> "ModelFolder":
        """The best model so far."""
        return ModelFolder(self.path / "model")

    @property
    def report(self) -> Path:
        """The page about the run."""
        return self.path / "report.html"

    @property
    def begun(self) -> bool:
        """Whether there is a run here."""
        return self.facts.is_file()

    def evaluation(self, split: str) -> Path:
        """The record of an evaluation."""
        return self.path / f"evaluation-{split}.json"

    def evaluated_units(self, split: str) -> Path:
        """The metrics of every unit of that evaluation."""
        return self.path / f"evaluation-{split}.parquet"

    def evaluations(self) -> list[Path]:
        """The records of all evaluations that there are."""
        return sorted(self.path.glob(self.evaluation("*").name))

    def unfinished_models(self) -> list[Path]:
        """What a process that died left of a model that it was writing."""
        return sorted(self.path.glob(f".{self.model.path.name}.*"))


@dataclass(frozen=True)
class ModelFolder:
    """The files of a trained model by what they are; a workload writes those that it needs.

    Attributes:
        path: the folder.
    """

    path: Path

    @property
    def weights(self) -> Path:
        """Its parameters and buffers."""
        return self.path / "model.safetensors"

    @property
    def description(self) -> Path:
        """What it was built for: vocabularies, sizes, what fits it."""
        return self.path / "model.json"

    @property
    def encoder(self) -> Path:
        """A pretrained encoder's configuration with its tokenizer."""
        return self.path / "encoder"

    @property
    def fitted(self) -> Path:
        """What was fitted on the training rows."""
        return self.path / "fitted"


@dataclass(frozen=True)
class ComparisonFolder:
    """The files of a comparison by what they are.

    Attributes:
        path: the folder.
    """

    path: Path

    @property
    def record(self) -> Path:
        """What was found."""
        return self.path / "comparison.json"

    @property
    def markdown(self) -> Path:
        """Its tables as text."""
        return self.path / "comparison.md"

    @property
    def report(self) -> Path:
        """The page about its runs."""
        return self.path / "report.html"

    def run(self, name: str, seed: int) -> Path:
        """The folder of one of its runs."""
        return self.path / f"{name}-seed{seed}"


class Run:
    """A run that is trained or asked.

    Args:
        path: its folder.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.files = path, RunFolder(path)

    @classmethod
    def create(cls, path: Path, recipe: Recipe, store: dict[str, Any]) -> "Run":
        """Start a run in a folder that must not hold anything yet.

        Args:
            path: the folder.
            recipe: the resolved recipe.
            store: where the prepared store stands and its manifest.

        Raises:
            UsageError: something is there already.
        """
        cls.refuse_used(path)
        run = cls(path)
        with disk_errors(path):
            path.mkdir(parents=True, exist_ok=True)
        with new_file(run.files.recipe) as file:
            file.write_text(to_toml(recipe), encoding="utf-8")
        write_json(
            run.files.facts,
            {
                "format": FORMAT,
                "name": recipe.name,
                "workload": recipe.workload,
                "status": "training",
                "seed": recipe.training.seed,
                "started": _now(),
                "versions": {package: importlib.metadata.version(package) for package in _PACKAGES},
                "machine": {
                    "system": platform.system(),
                    "processor": platform.machine(),
                    "cores": os.cpu_count(),
                    "python": platform.python_version(),
                },
                "store": store,
            },
        )
        return run

    @staticmethod
    def refuse_used(path: Path) -> None:
        """Refuse a folder that holds something, before any work is done for it.

        Raises:
            UsageError: it does.
        """
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise UsageError(
                f"{path}: there is something already; choose another --out, or continue it with --resume."
            )

    @classmethod
    def open(cls, path: Path) -> "Run":
        """Open an existing run.

        Raises:
            CounterpointError: it is no run, or one of another version.
        """
        run = cls(path)
        if not run.files.begun:
            raise UsageError(f"{path}: not a run folder; give the folder that counterpoint train wrote.")
        version = run.facts.get("format")
        if version != FORMAT:
            raise CounterpointError(
                f"{path}: a run of version {version}, this program reads version {FORMAT}; "
                "train again or use the counterpoint that made it."
            )
        return run

    @property
    def facts(self) -> dict[str, Any]:
        """The content of ``run.json``."""
        facts: dict[str, Any] = read_json(self.files.facts)
        return facts

    def note(self, **facts: Any) -> None:
        """Add facts to ``run.json``."""
        write_json(self.files.facts, {**self.facts, **facts})

    def finish(self, **facts: Any) -> None:
        """Note that training is done."""
        self.note(status="done", finished=_now(), **facts)

    @property
    def done(self) -> bool:
        """Whether training came to its end."""
        return self.facts.get("status") == "done"

    def recipe_table(self) -> dict[str, Any]:
        """Return the resolved recipe as tables."""
        try:
            return tomllib.loads(self.files.recipe.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise CounterpointError(f"{self.files.recipe}: cannot be read ({error}); restore it.") from error

    @property
    def model(self) -> Path:
        """Folder of the best model so far.

        Raises:
            CounterpointError: there is none yet.
        """
        folder = self.files.model.path
        if not folder.is_dir():
            raise CounterpointError(f"{self.path}: no model yet; continue the training with --resume.")
        return folder


def recipe_difference(
    theirs: Mapping[str, Any], ours: Mapping[str, Any], apart: Collection[str] = ("summary",)
) -> str | None:
    """Return in words the first key, but for those ``apart``, in which two resolved recipes differ."""
    return _difference(
        *({key: value for key, value in recipe.items() if key not in apart} for recipe in (theirs, ours))
    )


def data_difference(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> str | None:
    """Return in words in what two stores differ, by their manifests; where they came from does not matter.

    Fingerprints of the splits decide where both have them.
    """
    known = theirs.keys() | ours.keys()
    kept = {"fingerprints"} if "fingerprints" in theirs and "fingerprints" in ours else known - {"source"}
    found = _difference(
        *({key: manifest[key] for key in kept if key in manifest} for manifest in (theirs, ours))
    )
    return found and f"data whose {found}"


def _difference(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> str | None:
    """Return the first difference of two nested tables in words, its key in full."""
    for key in sorted(theirs.keys() | ours.keys()):
        there, here = theirs.get(key, _MISSING), ours.get(key, _MISSING)
        if isinstance(there, Mapping) and isinstance(here, Mapping):
            inside = _difference(there, here)
            if inside is not None:
                return f"{key}.{inside}"
        elif there != here:
            was, is_now = ("nothing" if value is _MISSING else repr(value) for value in (there, here))
            return f"{key} {was}, not {is_now}"
    return None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
