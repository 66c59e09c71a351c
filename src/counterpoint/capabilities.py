"""What a workload's models can do beside being evaluated: recommend, submit, export, embed."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Generic, Literal, Protocol, TypeVar

from counterpoint.errors import ArgumentError
from counterpoint.progress import Progress, silent

if TYPE_CHECKING:
    import polars as pl
    from _typeshed import DataclassInstance
    from torch import nn

    from counterpoint.runs.recipe import Recipe
    from counterpoint.workload import Store

AnyRecipe = TypeVar("AnyRecipe", bound="Recipe")
AnyStore = TypeVar("AnyStore", bound="Store")
AnyModel = TypeVar("AnyModel", bound="nn.Module")


@dataclass(frozen=True)
class Submission:
    """Predictions in the form that somebody else scores, written and read back.

    Attributes:
        path: where they stand.
        split: whose units they answer.
        units: how many.
        unit: what they are, in the plural: impressions, answers.
        metrics: computed from what was read back; empty where no answer can be scored.
        notes: sentences for whoever sends it in.
    """

    path: Path
    split: str
    units: int
    unit: str
    metrics: Mapping[str, float]
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Exported:
    """A model for a runtime without PyTorch.

    Attributes:
        folder: where its files stand.
        rows: how many were scored by both,
        difference: and by how much a probability differed at most.
    """

    folder: Path
    rows: int
    difference: float


@dataclass(frozen=True)
class Question:
    """What is asked of a recommender; a workload's capabilities say which of it they take.

    Attributes:
        history: ids of what a reader clicked, oldest first.
        candidates: ids to rank.
        article: titles of articles that the data do not have, by id.
        user: whom to recommend to.
        by: the label that ranks.
    """

    history: Sequence[str] | None = None
    candidates: Sequence[str] | None = None
    article: Mapping[str, str] | None = None
    user: str | None = None
    by: str | None = None

    def asked(self) -> dict[str, object]:
        """Return what is said, by its name."""
        return {name: value for name, value in vars(self).items() if value is not None}


class Recommender(Protocol):
    """What answers a `Question`; each has a ``recommend`` of its own too, with the arguments it takes."""

    def answers(
        self, question: Question, *, top: int, progress: Progress = silent
    ) -> "Sequence[DataclassInstance]":
        """Return dataclasses, best first, each of which says itself as a line for people."""
        ...

    def answers_for_all(
        self, question: Question, *, top: int, progress: Progress
    ) -> "Iterator[pl.DataFrame]":
        """Yield the best for everybody in the data, in blocks."""
        ...


class Embedder(Protocol):
    """What makes vectors of texts."""

    def embed_file(
        self,
        file: Path,
        out: Path,
        *,
        column: str,
        tell: Callable[[str], None] | None = None,
        progress: Progress = silent,
    ) -> int:
        """Write the vector of every text of a file, in its order; return how many there are."""
        ...


@dataclass(frozen=True)
class Recommends(Generic[AnyModel, AnyRecipe, AnyStore]):
    """The capability of recommending.

    Attributes:
        to: whom: readers, by what they clicked, or users, by who they are.
        asked: what of a `Question` it takes,
        asked_of_all: and what of that for everybody at once.
        needed: what of it must be said.
        recommender: returns what answers; the folder is the model's.
    """

    to: Literal["readers", "users"]
    asked: tuple[str, ...]
    recommender: Callable[[AnyModel, AnyRecipe, AnyStore, Path], Recommender]
    asked_of_all: tuple[str, ...] = ()
    needed: tuple[str, ...] = ()

    def require(self, question: Question, *, everybody: bool = False) -> None:
        """Refuse a question that says what is not asked, or not what is needed.

        Raises:
            UsageError: it does.
        """
        takes = self.asked_of_all if everybody else self.asked
        said = question.asked()
        for name in said:
            if name not in takes:
                where = "for everybody at once" if everybody else "here"
                known = ", ".join(takes) or "nothing of the kind"
                raise ArgumentError(name, f"of no use {where}; this run takes {known}")
        for name in () if everybody else self.needed:
            if name not in said:
                raise ArgumentError(name, "missing; say whom to recommend to, or ask for everybody")


Submit = Callable[[AnyModel, AnyRecipe, AnyStore, str | None, Path, Progress], Submission]
Export = Callable[[AnyModel, AnyRecipe, AnyStore, Path, Progress], Exported]


@dataclass(frozen=True)
class Capabilities(Generic[AnyModel, AnyRecipe, AnyStore]):
    """What a workload's models can do beside being evaluated; what is none is refused in one way.

    Attributes:
        recommend: ranks articles or items for somebody.
        submit: writes the predictions of a split (by default the one that is meant for it) as a submission,
            and reads it back.
        export: writes a model with its vocabulary for a runtime without PyTorch, which must score alike.
        embed: returns what makes vectors of texts, from the model's folder alone: it needs no store.
    """

    recommend: Recommends[AnyModel, AnyRecipe, AnyStore] | None = None
    submit: Submit[AnyModel, AnyRecipe, AnyStore] | None = None
    export: Export[AnyModel, AnyRecipe, AnyStore] | None = None
    embed: Callable[[Path, AnyRecipe], Embedder] | None = None
