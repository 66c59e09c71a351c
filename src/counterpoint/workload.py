"""The seam between the commands and the workloads: who has seen one workload knows all."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from counterpoint.errors import UsageError, nearest
from counterpoint.progress import Progress
from counterpoint.recipe import Recipe

if TYPE_CHECKING:
    from torch import nn

    from counterpoint.evaluation.tables import Evaluated

_MODULES = {
    "news": "counterpoint.news.workload",
    "behaviors": "counterpoint.behaviors.workload",
    "feedback": "counterpoint.feedback.workload",
    "sentences": "counterpoint.sentences.workload",
}


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
