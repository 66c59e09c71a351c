"""A run at work: its recipe, its model, the data beside it, and what its workload lets it do."""

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from counterpoint import workload
from counterpoint.capabilities import Recommender
from counterpoint.errors import UsageError
from counterpoint.progress import Progress, silent
from counterpoint.runs.folder import Run
from counterpoint.runs.recipe import Recipe
from counterpoint.workload import AnyWorkload, OnBadRow, Preparation, Store

if TYPE_CHECKING:
    from torch import nn

    from counterpoint.capabilities import Embedder, Export, Recommends, Submit

Ability = TypeVar("Ability")


class OpenedRun:
    """A run whose model is asked for something.

    What its workload cannot do is refused before anything is loaded.

    Args:
        folder: the run's.

    Raises:
        UsageError: it is no run's folder.
    """

    def __init__(self, folder: str | Path) -> None:
        self.run = Run.open(Path(folder))

    @cached_property
    def recipe(self) -> Recipe:
        """The recipe that the run was made with; keys that it did not know yet have their defaults."""
        return workload.resolved(self.run.recipe_table(), self.run.files.recipe)

    @property
    def workload(self) -> AnyWorkload:
        """What kind of data the run is of."""
        return workload.find(self.recipe.workload)

    @property
    def on_bad_row(self) -> OnBadRow:
        """What became of malformed rows in its training."""
        return "skip" if self.run.facts["store"].get("on_bad_row") == "skip" else "stop"

    @property
    def recommends(self) -> "Recommends[nn.Module, Recipe, Store]":
        """How it recommends, and what has to be asked."""
        return self._able(self.workload.capabilities.recommend, "recommend")

    @property
    def submit(self) -> "Submit[nn.Module, Recipe, Store]":
        """What writes a submission."""
        return self._able(self.workload.capabilities.submit, "submit")

    @property
    def export(self) -> "Export[nn.Module, Recipe, Store]":
        """What writes its model for another runtime."""
        return self._able(self.workload.capabilities.export, "export")

    @property
    def embeds(self) -> bool:
        """Whether it makes vectors of texts."""
        return self.workload.capabilities.embed is not None

    def embedder(self) -> "Embedder":
        """Return what makes vectors of texts; it needs no data."""
        return self._able(self.workload.capabilities.embed, "embed")(self.run.model, self.recipe)

    def recommender(self, data: str | Path | None, progress: Progress = silent) -> Recommender:
        """Return what answers questions, on the run's own data or on others."""
        make = self.recommends.recommender
        model, store = self.opened(data, progress)
        return make(model, self.recipe, store, self.run.model)

    def opened(
        self, data: str | Path | Store | None, progress: Progress = silent
    ) -> "tuple[nn.Module, Store]":
        """Return the model with the store of the run's own data, or of others, where nothing is named.

        Malformed rows are what they were in training. A store that is open already is taken as it is.

        Raises:
            UsageError: no data are named and the run's own store is gone.
            CounterpointError: model or data are broken, or do not fit each other.
        """
        if data is not None and not isinstance(data, str | Path):
            return self.workload.load(self.run.model, self.recipe, data), data
        where = Path(data) if data is not None else Path(self.run.facts["store"]["path"])
        if data is None and not where.exists():
            raise UsageError(
                f"{self.run.path}: its prepared store {where} is gone; say where the data are now, raw or "
                "prepared."
            )
        preparation = Preparation(on_bad_row=self.on_bad_row, progress=progress, model=self.run.model)
        store = self.workload.prepare(where, self.recipe, preparation).store
        return self.workload.load(self.run.model, self.recipe, store), store

    def _able(self, ability: Ability | None, name: str) -> Ability:
        if ability is None:
            raise workload.refusal(self.run.path, self.recipe.workload, name)
        return ability
