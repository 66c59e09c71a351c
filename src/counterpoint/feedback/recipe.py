"""The feedback workload's part of the recipe."""

from typing import Literal, Self

from pydantic import Field, PositiveInt, model_validator

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


class Network(Section):
    """Experts between the columns' embeddings and the tasks' towers; the defaults are paper 5's (4.1.4)."""

    architecture: Literal["shared-bottom", "mmoe", "ple"] = Field(
        "ple",
        description="one expert for all tasks; several that each task mixes; or shared ones beside own ones",
    )
    levels: int = Field(1, ge=1, description="of experts, each on the mixtures of the one below; 1 is CGC")
    shared_experts: int | None = Field(
        None, ge=0, description="of each level; default: 1, with mmoe one more than there are tasks"
    )
    own_experts: int | None = Field(
        None, ge=1, description="of each task and level, with ple alone; default: 1"
    )
    expert_kind: Literal["deepfm", "mlp", "shared-fm-scalar"] = Field(
        "deepfm",
        description="each an MLP with a linear part and a factorization machine; MLPs; or MLPs and one "
        "factorization machine beside every task's mixture, as paper 5's code has it",
    )
    embedding: int = Field(16, ge=1, description="numbers in the vector of an id")
    experts: tuple[PositiveInt, ...] = Field(
        (256, 128, 64), min_length=1, description="widths of an expert's layers"
    )
    towers: tuple[PositiveInt, ...] = Field((32, 16), description="widths of each tower's layers")
    dropout: float = Field(0.2, ge=0, lt=1, description="after each layer of experts and towers")
    initial: Literal["normal", "xavier"] = Field(
        "normal", description="weights of layers: N(0, 0.01²) as the tables', or by Xavier's uniform rule"
    )
    chain: Literal["none", "esmm", "aitm"] = Field(
        "none",
        description="where tasks follow each other: probabilities are products down the chain, or towers "
        "pass on what they found, by attention",
    )
    order: tuple[str, ...] = Field((), description="the tasks of the chain, the first to happen first")
    calibrator: float = Field(
        0.6, ge=0, description="weight of aitm's loss where a task is likelier than the one before it"
    )
    shared: Literal["paper", "all"] = Field(
        "paper",
        description="balanced are the parameters that several tasks reach, as in print; or all, as released",
    )
    updates: Literal["touched", "all"] = Field(
        "touched",
        description="a step moves the rows that its batch looked up, or all rows, by their moments",
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.architecture == "shared-bottom" and (self.levels, self.shared_experts or 1) != (1, 1):
            raise ValueError("a shared-bottom has one shared expert and one level; choose mmoe for more")
        if self.architecture == "mmoe" and self.shared_experts == 0:
            raise ValueError("mmoe has no experts but shared ones; shared_experts must be 1 at least")
        if self.architecture != "ple" and self.own_experts is not None:
            raise ValueError(f"own_experts are ple's; leave them out with {self.architecture}")
        if (self.chain == "none") != (not self.order):
            raise ValueError("chain and order go together: chain is esmm or aitm, order names its tasks")
        if self.order and (len(self.order) < 2 or len(set(self.order)) != len(self.order)):
            raise ValueError("order must name at least two tasks, each once")
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
            _refuse_unreadable(label, rule)
        if self.separate and self.balance.method != "equal":
            raise ValueError("separate networks share nothing to balance; set balance.method to equal")
        if self.separate and self.network.chain != "none":
            raise ValueError("separate networks follow no chain; leave network.chain out")
        return self


def _refuse_unreadable(label: str, rule: str) -> None:
    """Raise where a rule cannot be read; polars, whose expressions rules are, is loaded for the first one."""
    from counterpoint.feedback.data.rules import parse

    parse(label, rule)
