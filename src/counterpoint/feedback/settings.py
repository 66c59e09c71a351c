"""The network's section of the recipe."""

from typing import Literal, Self

from pydantic import Field, PositiveInt, model_validator

from counterpoint.runs.recipe import Section


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
