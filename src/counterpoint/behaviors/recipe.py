"""The behaviors workload's part of the recipe."""

from typing import Literal, Self

from pydantic import Field, PositiveInt, model_validator

from counterpoint.behaviors.data.formats import SYNONYMS
from counterpoint.runs.recipe import Balance, Recipe, Section


class Data(Section):
    """How a log of behaviours is filtered and split (paper 4, appendix A.2)."""

    least_bought: int = Field(10, ge=1, description="distinct items that a user who stays has bought")
    least_buyers: int = Field(10, ge=1, description="distinct users that have bought an item that stays")
    filter: Literal["once", "core"] = Field(
        "once", description="users, then items, once (paper 4); or in turns until nothing falls out any more"
    )
    split: Literal["random", "last"] = Field(
        "random",
        description="of the target's pairs: at random over all (paper 4), or each user's last one tests and "
        "the one before validates; a log that brings its own test pairs keeps them",
    )
    validation_share: float = Field(0.1, gt=0, lt=1, description="of the target's pairs")
    test_share: float = Field(0.2, gt=0, lt=1, description="of the target's pairs")
    split_seed: int = Field(0, ge=0, description="of the random split; training.seed leaves it alone")
    ignore: tuple[str, ...] = Field((), description="behaviours of the log that are no task")

    @model_validator(mode="after")
    def _leaves_something(self) -> Self:
        if self.validation_share + self.test_share >= 1:
            raise ValueError("validation_share and test_share must leave something to train on")
        return self


class Sampling(Section):
    """Pairs without any behaviour, drawn anew in each epoch."""

    negatives: int = Field(4, ge=1, description="beside each pair that has a behaviour")
    reject: Literal["any", "target"] = Field(
        "any", description="draw no item that the user has any training behaviour with, or has bought"
    )


class Network(Section):
    """Paper 4's network: a shared bottom of an MLP and a product of embeddings, a tower for each task."""

    size: int = Field(64, ge=1, description="numbers in a user's and an item's vector")
    mlp: tuple[PositiveInt, ...] = Field((32, 16, 8), min_length=1, description="widths of the shared layers")
    towers: tuple[PositiveInt, ...] = Field((64, 32), description="widths of each tower's layers")
    dropout: float = Field(0.5, ge=0, lt=1, description="after each layer")
    tables: Literal["separate", "common"] = Field(
        "separate", description="the MLP and the product look up tables of their own, or the same ones"
    )
    updates: Literal["touched", "all"] = Field(
        "touched",
        description="a step moves the rows that its batch looked up, or all rows, by their moments",
    )


class Ranking(Section):
    """Whom items are ranked for, and which items a ranking leaves out."""

    mask: tuple[Literal["validation", "auxiliary"], ...] = Field(
        (),
        description="left out beside what was bought in training: bought in the validation split; met in "
        "training by another behaviour",
    )
    validation_users: int | None = Field(
        None, ge=1, description="users whose rankings validate while training, drawn once; default: all"
    )
    test_users: int | None = Field(
        None, ge=1, description="users whose rankings test, drawn once; default: all, as published figures do"
    )


class BehaviorsRecipe(Recipe):
    """A run on a log of behaviours: tasks[0] is the target, the others are auxiliary."""

    workload: Literal["behaviors"] = "behaviors"
    tasks: tuple[str, ...] = ("buy", "click", "cart", "favourite")
    balance: Balance = Balance()
    data: Data = Data()
    sampling: Sampling = Sampling()
    network: Network = Network()
    ranking: Ranking = Ranking()

    @property
    def target(self) -> str:
        """The behaviour that is predicted for its own sake."""
        return self.tasks[0]

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if not self.tasks or len(set(self.tasks)) != len(self.tasks):
            raise ValueError("tasks must name a target first and each behaviour once")
        if len(self.tasks) > 8:
            raise ValueError(f"tasks must be 8 at most; there are {len(self.tasks)}")
        for task in self.tasks:
            if task in SYNONYMS:
                raise ValueError(f"tasks must name {SYNONYMS[task]!r}, as which rows of {task!r} are read")
        both = set(self.tasks) & set(self.data.ignore)
        if both:
            raise ValueError(f"{min(both)!r} is a task and in data.ignore; leave it out of one of them")
        return self
