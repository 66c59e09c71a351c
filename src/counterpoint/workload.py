"""The seam between the commands and the workloads: who has seen one workload knows all."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from counterpoint.errors import NoDataError, UsageError, nearest
from counterpoint.progress import Progress
from counterpoint.runs.recipe import Recipe

if TYPE_CHECKING:
    from torch import nn

    from counterpoint.metrics.tables import Evaluated

_MODULES = {
    "news": "counterpoint.news.workload",
    "behaviors": "counterpoint.behaviors.workload",
    "feedback": "counterpoint.feedback.workload",
    "sentences": "counterpoint.sentences.workload",
}

_READERS = {"news": "mtrec", "behaviors": "metabalance", "feedback": "gradcraft"}
"""The workloads that tell data by its files' names or by ``--format``, with a recipe of each."""


@dataclass(frozen=True)
class Trainee:
    """What the loop trains.

    Attributes:
        model: a module with ``losses`` and ``shared_parameters``.
        batches: its training batches.
        target: the target task.
        metric: the validation metric that decides.
        validate: returns validation metrics; none where there is no validation split.
        save: writes the model into a folder.
        facts: what to note about the data in the run.
        notes: sentences about the data for whoever starts the training.
    """

    model: "nn.Module"
    batches: Any
    target: str
    metric: str
    validate: Callable[[], dict[str, float]] | None
    save: Callable[[Path], None]
    facts: dict[str, Any]
    notes: Sequence[str] = ()


class Store(Protocol):
    """A prepared store of any workload."""

    path: Path
    manifest: dict[str, Any]


class Workload(Protocol):
    """A workload: one module each."""

    recipe_type: type[Recipe]

    def prepare(
        self,
        data: Path,
        recipe: Any,
        *,
        format_name: str | None,
        out: Path | None,
        on_bad_row: Literal["stop", "skip"],
        progress: Progress,
        model: Path | None = None,
    ) -> Any:
        """Return the prepared store of ``data``, made on first use; ``data`` may be a store itself.

        A trained ``model`` brings what shapes a store, its tokenizer for one.
        """
        ...

    def trainee(self, recipe: Any, store: Any) -> Trainee:
        """Return what the loop trains."""
        ...

    def load(self, folder: Path, recipe: Any, store: Any) -> Any:
        """Return a model that ``Trainee.save`` wrote; the store takes over its label numbers."""
        ...

    def evaluate(self, model: Any, recipe: Any, store: Any, split: str, progress: Progress) -> "Evaluated":
        """Return metrics, floors, slices and counts of a split, and the metrics of every unit."""
        ...

    def submit(
        self, model: Any, recipe: Any, store: Any, split: str | None, out: Path, progress: Progress
    ) -> Any:
        """Write the predictions of a split as a submission, read it back and check it."""
        ...

    def export(self, model: Any, recipe: Any, store: Any, out: Path) -> Any:
        """Write the model with its vocabulary for a runtime without PyTorch; it must score alike."""
        ...

    def recommender(self, model: Any, recipe: Any, store: Any, folder: Path) -> Any:
        """Return what answers ``recommend``; without a store where `answers_alone`."""
        ...


def answers_alone(place: Workload) -> bool:
    """Return whether a workload's models answer without a store: its module then says ``ANSWERS_ALONE``."""
    return bool(getattr(place, "ANSWERS_ALONE", False))


def find(name: str) -> Workload:
    """Return a workload by the name that recipes use.

    Raises:
        UsageError: there is none of that name.
    """
    if name not in _MODULES:
        raise UsageError(
            f"no workload is called {name!r}{nearest(name, _MODULES)}; known: {', '.join(_MODULES)}."
        )
    module: Any = import_module(_MODULES[name])
    workload: Workload = module
    return workload


def prepare(
    data: Path,
    recipe: Recipe,
    *,
    format_name: str | None,
    out: Path | None,
    on_bad_row: Literal["stop", "skip"],
    progress: Progress,
    advice: str = "choose a recipe such as {}",
) -> Any:
    """Return the prepared store of ``data`` for a recipe, made on first use.

    Args:
        data: raw data, or a store itself.
        recipe: whose workload reads it.
        format_name: of the raw data; found by itself.
        out: the store's folder; by default one in the cache.
        on_bad_row: stop at the first malformed row, or set them aside.
        progress: told how far the work is.
        advice: how to name a recipe of another workload.

    Raises:
        UsageError: the format or the data is another workload's.
    """
    own = recipe.workload
    others = [name for name in _READERS if name != own]

    def refused(what: str, readers: list[str]) -> UsageError:
        remedy = advice.format(" or ".join(_READERS[name] for name in readers))
        return UsageError(f"{what} {' or '.join(readers)}, and {recipe.name} is a recipe of {own}; {remedy}.")

    if format_name is not None:
        readers = [name for name in others if format_name in _layout(name).FORMATS]
        if readers:
            raise refused(f"--format {format_name}: one of", readers)
    try:
        return find(own).prepare(
            data, recipe, format_name=format_name, out=out, on_bad_row=on_bad_row, progress=progress
        )
    except NoDataError as error:
        readers = [name for name in others if _reads(name, data)]
        if not readers:
            raise
        raise refused(f"{data}: looks like data of", readers) from error


def _reads(name: str, data: Path) -> bool:
    """Return whether a workload finds files of its own in a place."""
    try:
        _layout(name).find(data)
    except UsageError:
        return False
    return True


def _layout(name: str) -> Any:
    """Return the module that finds a workload's files."""
    return import_module(f"counterpoint.{name}.data.layout")
