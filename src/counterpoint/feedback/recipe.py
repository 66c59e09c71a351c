"""The feedback workload's part of the recipe."""

from typing import Literal, Self

from pydantic import Field, model_validator

from counterpoint.feedback.data.rules import parse
from counterpoint.feedback.settings import Network
from counterpoint.runs.recipe import Balance, Recipe, Section


class Columns(Section):
    """What the columns of a log are; what is left out is what the log's format says."""

    user: str | None = Field(None, description='whose views count together; "" where there are no users')
    item: str | None = Field(None, description='what is viewed; "" where there is nothing of the kind')
    time: str | None = Field(None, description="whole numbers that ascend; needed by data.split = time")
    ids: tuple[str, ...] | None = Field(None, description="with one id in each row, user and item among them")
    numbers: tuple[str, ...] | None = Field(None, description="standardised by the training rows")
    lists: tuple[str, ...] | None = Field(None, description="with any number of ids in each row")

    @model_validator(mode="after")
    def _once(self) -> Self:
        for role in ("ids", "numbers", "lists"):
            names = getattr(self, role) or ()
            if len(set(names)) != len(names):
                raise ValueError(f"columns.{role} names a column twice")
        return self


class Data(Section):
    """How a log is filtered, split and numbered (paper 5, 4.1.1)."""

    core: int = Field(10, ge=1, description="views that every user and item has, filtered until nothing goes")
    split: Literal["rows", "users", "time"] = Field(
        "rows",
        description="at random over the rows, or over the users; or the last rows test and those before "
        "validate; a log that brings its own test rows keeps them and is not filtered",
    )
    validation_share: float = Field(0.1, gt=0, lt=1, description="of the rows, or of the users")
    test_share: float = Field(0.1, gt=0, lt=1, description="of the rows, or of the users")
    split_seed: int = Field(0, ge=0, description="of the random splits; training.seed leaves it alone")
    min_count: int = Field(1, ge=1, description="training rows of an id that gets a vector of its own")

    @model_validator(mode="after")
    def _leaves_something(self) -> Self:
        if self.validation_share + self.test_share >= 1:
            raise ValueError("validation_share and test_share must leave something to train on")
        return self


class Evaluation(Section):
    """How metrics are averaged."""

    gauc_weight: Literal["impressions", "positives", "uniform"] = Field(
        "impressions", description="of a user in GAUC: all of the user's rows, the positive ones, or 1"
    )


class FeedbackRecipe(Recipe):
    """A run on a log of views with yes-or-no labels, all of which are tasks of the same rank."""

    workload: Literal["feedback"] = "feedback"
    tasks: tuple[str, ...] = Field((), description="the labels to learn; default: all that the log has")
    separate: bool = Field(False, description="a network for each task, none of them shared: the baseline")
    labels: dict[str, str] = Field(
        {},
        description="label rules, as play > quantile(play, 0.5); default: those of the log's format",
    )
    balance: Balance = Balance()
    columns: Columns = Columns()
    data: Data = Data()
    network: Network = Network()
    evaluation: Evaluation = Evaluation()

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if len(set(self.tasks)) != len(self.tasks):
            raise ValueError("tasks must name each label once")
        if self.labels:
            strangers = [task for task in self.tasks if task not in self.labels]
            if strangers:
                raise ValueError(f"tasks has {strangers[0]!r}, which is none of the labels")
        for label, rule in self.labels.items():
            if set(label) & set("/|+"):
                raise ValueError(f"the label {label!r} has one of / | + in it, which join names in results")
            parse(label, rule)
        if self.separate and self.balance.method != "equal":
            raise ValueError("separate networks share nothing to balance; set balance.method to equal")
        if self.separate and self.network.chain != "none":
            raise ValueError("separate networks follow no chain; leave network.chain out")
        return self
