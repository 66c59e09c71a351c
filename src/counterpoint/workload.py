"""The seam between what users call and the workloads: who has seen one workload knows all."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, cast

from counterpoint.capabilities import AnyModel, AnyRecipe, AnyStore, Capabilities
from counterpoint.errors import ArgumentError, NoDataError, UsageError, nearest
from counterpoint.progress import Progress, silent
from counterpoint.storage.formats import Formats, Named

if TYPE_CHECKING:
    from torch import nn

    from counterpoint.metrics.evaluated import Evaluated
    from counterpoint.runs.recipe import Recipe
    from counterpoint.storage.prepared import Prepared
    from counterpoint.training.interfaces import Batch, Batches

OnBadRow = Literal["stop", "skip"]
"""Stop at the first malformed row, or set malformed rows aside."""

_RECIPES = {
    "news": "NewsRecipe",
    "behaviors": "BehaviorsRecipe",
    "feedback": "FeedbackRecipe",
    "sentences": "SentencesRecipe",
}
"""The workloads, with the type of their recipes in ``counterpoint.NAME.recipe``."""


class Store(Protocol):
    """A prepared store of any workload."""

    path: Path
    manifest: dict[str, Any]  # the content of a JSON file

    @property
    def counts(self) -> dict[str, int]:
        """What preparation counted: everything read, dropped, unknown or truncated."""
        ...


@dataclass(frozen=True)
class Preparation:
    """How raw data become a store, beside what the recipe says.

    Attributes:
        format: of the raw data; found by itself.
        out: the store's folder; by default one in the cache.
        on_bad_row: what becomes of malformed rows.
        progress: told how far the work is.
        model: the folder of a trained model, which brings its tokenizer or vocabularies.
    """

    format: str | None = None
    out: Path | None = None
    on_bad_row: OnBadRow = "stop"
    progress: Progress = silent
    model: Path | None = None


@dataclass(frozen=True)
class Trainee:
    """What the loop trains.

    Attributes:
        model: what is trained.
        batches: its training batches.
        target: the target task.
        metric: the validation metric that decides.
        validate: returns validation metrics; none where there is no validation split.
        save: writes the model into a folder.
        facts: what to note about the data in the run.
        notes: sentences about the data for whoever starts the training.
    """

    model: "nn.Module"
    batches: "Batches[Batch]"
    target: str
    metric: str
    validate: Callable[[], dict[str, float]] | None
    save: Callable[[Path], None]
    facts: Mapping[str, int | bool]
    notes: Sequence[str] = ()


_REFUSALS = {
    "recommend": "recommends nothing",
    "submit": "has no form for submissions",
    "export": "cannot be exported",
    "embed": "makes no vectors of sentences",
}


@dataclass(frozen=True)
class Workload(Generic[AnyModel, AnyRecipe, AnyStore]):
    """A kind of data with the models for it.

    Attributes:
        name: what recipes call it.
        recipe_type: the type of its recipes.
        formats: of the raw data that it reads.
        example: a recipe of its own, to name where one is needed.
        prepare: returns the store of raw data, made on first use; the data may be a store itself.
        trainee: returns what the loop trains.
        load: returns a model that ``Trainee.save`` wrote; the store takes over its label numbers.
        evaluate: returns metrics, floors, slices and counts of a split, and the metrics of every unit.
        capabilities: what else its models can do.
        find: finds raw files of its own in a place, or raises a `UsageError`; none where a recipe names them.
    """

    name: str
    recipe_type: type[AnyRecipe]
    formats: Formats[Named]
    example: str
    prepare: Callable[[Path, AnyRecipe, Preparation], "Prepared[AnyStore]"]
    trainee: Callable[[AnyRecipe, AnyStore, Progress], Trainee]
    load: Callable[[Path, AnyRecipe, AnyStore], AnyModel]
    evaluate: Callable[[AnyModel, AnyRecipe, AnyStore, str, Progress], "Evaluated"]
    capabilities: Capabilities[AnyModel, AnyRecipe, AnyStore] = field(default_factory=Capabilities)
    find: Callable[[Path], object] | None = None

    def reads(self, data: Path) -> bool:
        """Return whether there are raw files of its own in a place."""
        if self.find is None:
            return False
        try:
            self.find(data)
        except UsageError:
            return False
        return True


AnyWorkload = Workload["nn.Module", "Recipe", Store]
"""A workload whose own types are not known: what it prepares and loads goes back to itself alone."""


def names() -> tuple[str, ...]:
    """Return the names of all workloads."""
    return tuple(_RECIPES)


def recipe_type(name: str) -> "type[Recipe]":
    """Return the type of a workload's recipes, without reading what trains them.

    Raises:
        UsageError: there is no workload of that name.
    """
    if name not in _RECIPES:
        raise UsageError(
            f"no workload is called {name!r}{nearest(name, _RECIPES)}; known: {', '.join(_RECIPES)}."
        )
    kind: type[Recipe] = getattr(import_module(f"counterpoint.{name}.recipe"), _RECIPES[name])
    return kind


def resolved(table: dict[str, Any], origin: str | Path) -> "Recipe":
    """Return the tables of a recipe as one of its workload's recipes.

    Raises:
        UsageError: there is no such workload, or a key or value is wrong.
    """
    from counterpoint.runs.recipe import validate

    return validate(table, recipe_type(str(table.get("workload"))), origin)


def formats(name: str) -> Formats[Named]:
    """Return the formats that a workload reads, without reading them or what trains."""
    found: Formats[Named] = import_module(f"counterpoint.{name}.data.formats").FORMATS
    return found


def find(name: str) -> AnyWorkload:
    """Return a workload by the name that recipes use.

    Raises:
        UsageError: there is none of that name.
    """
    recipe_type(name)
    return cast("AnyWorkload", import_module(f"counterpoint.{name}.workload").WORKLOAD)


def refusal(subject: Path, name: str, capability: str) -> UsageError:
    """Return why a run, the ``subject``, is of no use for what its workload's models cannot do."""
    able = [each for each in _RECIPES if getattr(find(each).capabilities, capability) is not None]
    return UsageError(
        f"{subject}: a run of {name}, which {_REFUSALS[capability]}; give a run of {' or '.join(able)}."
    )


def prepare(data: Path, recipe: "Recipe", preparation: Preparation) -> "Prepared[Store]":
    """Return the prepared store of ``data``, raw or a store itself, for a recipe.

    Raises:
        UsageError: the format or the data is another workload's.
    """
    own = recipe.workload
    others = [name for name in _RECIPES if name != own]

    def remedy(readers: Sequence[str]) -> str:
        examples = " or ".join(find(name).example for name in readers)
        return f"and {recipe.name} is a recipe of {own}; choose a recipe such as {examples}"

    wanted = preparation.format
    if wanted is not None and wanted not in formats(own):
        readers = [name for name in others if wanted in formats(name)]
        if readers:
            raise ArgumentError("format", f"{wanted} is one of {' or '.join(readers)}, {remedy(readers)}")
    try:
        return find(own).prepare(data, recipe, preparation)
    except NoDataError as error:
        readers = [name for name in others if find(name).reads(data)]
        if not readers:
            raise
        raise UsageError(f"{data}: looks like data of {' or '.join(readers)}, {remedy(readers)}.") from error
