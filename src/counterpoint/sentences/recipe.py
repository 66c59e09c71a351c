"""The sentences workload's part of the recipe."""

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from counterpoint.runs.recipe import Adapter, Recipe, Section

Pair = Literal["concatenation", "difference", "joint", "cosine", "relu_cosine", "learned_cosine"]
Order = Literal["unbalanced", "balanced", "proportional", "annealed"]

COSINES: tuple[Pair, ...] = ("cosine", "relu_cosine", "learned_cosine")


class Data(Section):
    """How sentences are read and divided."""

    max_tokens: int = Field(
        64, ge=3, le=512, description="word pieces of a sentence, special tokens included"
    )
    validation_share: float = Field(0.1, gt=0, lt=1, description="of each task's training rows")
    split_seed: int = Field(0, ge=0, description="of that draw; training.seed leaves it alone")


class Encoder(Section):
    """The encoder that all tasks share: any Hugging Face encoder."""

    name: str = Field("minilm", description="'minilm' (in extra 'demo'), a hub name or a folder")
    revision: str | None = Field(None, description="the hub's revision")
    pooling: Literal["auto", "mean", "cls"] = Field("auto", description="auto: mean for MiniLM, else cls")
    dropout: float = Field(0.0, ge=0, lt=1)
    random_weights: bool = Field(False, description="start from the configuration alone")
    lora: Adapter | None = Field(None, description="train low-rank additions instead of the weights")


class Heads(Section):
    """What all heads have in common."""

    dropout: float = Field(0.3, ge=0, lt=1, description="between a sentence's vector and a linear layer")


class Task(Section):
    """One task: where its rows stand, and how it is answered (paper 3, sections 4.2 to 4.4)."""

    texts: tuple[str, ...] = Field(
        min_length=1, max_length=2, description="the column of a sentence, or those of a pair's two"
    )
    label: str = Field(description="the column of the answer")
    classes: int | None = Field(None, ge=2, description="the answer is a class, from 0 to one less")
    scores: tuple[float, float] | None = Field(None, description="the answer is a number between these two")
    train: str = Field(description="files of training rows: a pattern, in the data's folder or FOLDER/")
    test: str = Field(description="the file of rows to test on")
    unlabelled: str = Field(description="the file of rows without answers, to predict")
    predictions: str = Field(description="how files of predictions begin")
    column: str = Field(description="what they call the answer")
    pair: Pair = Field(
        "concatenation",
        description="linear layer on [u, v], on [u, v, |u-v|], or on the vector of the pair encoded "
        "jointly; scores also 5 cos(u, v), 5 ReLU(cos(u, v)), or a cosine with a learned temperature",
    )
    dropout: bool = Field(True, description="heads.dropout in front of the linear layer")

    @property
    def sides(self) -> int:
        """Sentences of a row."""
        return len(self.texts)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if (self.classes is None) == (self.scores is None):
            raise ValueError("give either classes or scores")
        if self.scores is not None and not self.scores[0] < self.scores[1]:
            raise ValueError(f"scores must rise; {self.scores[0]} is not below {self.scores[1]}")
        if self.pair != "concatenation" and self.sides == 1:
            raise ValueError(f"pair = {self.pair!r} needs two columns in texts")
        if self.pair in COSINES and self.scores is None:
            raise ValueError(f"pair = {self.pair!r} answers with a score; give scores instead of classes")
        return self


BUILT_IN: Mapping[str, Mapping[str, Any]] = {
    "sentiment": {
        "texts": ("sentence",),
        "label": "sentiment",
        "classes": 5,
        "train": "ids-sst-train*",
        "test": "ids-sst-dev*",
        "unlabelled": "ids-sst-test-student*",
        "predictions": "sst",
        "column": "Predicted_Sentiment",
    },
    "cfimdb": {
        "texts": ("sentence",),
        "label": "sentiment",
        "classes": 2,
        "train": "ids-cfimdb-train*",
        "test": "ids-cfimdb-dev*",
        "unlabelled": "ids-cfimdb-test-student*",
        "predictions": "cfimdb",
        "column": "Predicted_Sentiment",
    },
    "paraphrase": {
        "texts": ("sentence1", "sentence2"),
        "label": "is_duplicate",
        "classes": 2,
        "train": "quora-train*",
        "test": "quora-dev*",
        "unlabelled": "quora-test-student*",
        "predictions": "para",
        "column": "Predicted_Is_Paraphrase",
    },
    "similarity": {
        "texts": ("sentence1", "sentence2"),
        "label": "similarity",
        "scores": (0.0, 5.0),
        "train": "sts-train*",
        "test": "sts-dev*",
        "unlabelled": "sts-test-student*",
        "predictions": "sts",
        "column": "Predicted_Similiary",  # the course's own spelling
    },
}
"""The tasks of the course that paper 3 was written for, by their files' names."""


class Sampling(Section):
    """Which batches a step takes: one of each task, of ``training.batch_size`` rows."""

    tasks: tuple[str, ...] | Literal["all"] = Field(
        "all", description="that are trained; others keep the head that they begin with"
    )
    order: Order = Field(
        "balanced",
        description="round robin until every task's rows end, or over the largest task's rows while smaller "
        "ones begin again, shuffled anew; or tasks drawn by their size, or ever more evenly over the epochs",
    )
    share: float = Field(
        1.0, gt=0, le=1, description="of each task's training rows, drawn once: less is for trials"
    )


class SentencesRecipe(Recipe):
    """A run on sentence tasks: tasks[0] is the target of methods that favour one.

    Nothing else depends on the order of ``tasks``: all that is drawn follows the order of the ``[task.*]``
    tables, the built-in ones first, so that runs which differ in the target alone see the same batches.
    """

    workload: Literal["sentences"] = "sentences"
    tasks: tuple[str, ...] = ("sentiment", "paraphrase", "similarity")
    task: dict[str, Task] = Field({}, description="by name; sections of built-in tasks may be partial")
    data: Data = Data()
    encoder: Encoder = Encoder()
    heads: Heads = Heads()
    sampling: Sampling = Sampling()

    @property
    def in_order(self) -> tuple[str, ...]:
        """The tasks in the order of their tables, whichever is the target."""
        return tuple(name for name in self.task if name in self.tasks)

    @property
    def trained(self) -> tuple[str, ...]:
        """The tasks that are trained, in the order of their tables."""
        chosen = self.sampling.tasks
        return tuple(name for name in self.in_order if chosen == "all" or name in chosen)

    @model_validator(mode="before")
    @classmethod
    def _with_what_is_known(cls, given: Any) -> Any:
        """Fill the sections of tasks: what is built in, then what follows from a task's name."""
        if not isinstance(given, dict) or not isinstance(given.get("task", {}), dict):
            return given
        sections = given.get("task", {})
        names = given.get("tasks", cls.model_fields["tasks"].default)
        wanted = [name for name in BUILT_IN if name in names] if isinstance(names, list | tuple) else []
        filled = {
            name: {**BUILT_IN.get(name, _named_after(name)), **own} if isinstance(own, dict) else own
            for name, own in {**{known: {} for known in wanted}, **sections}.items()
        }
        return {**given, "task": filled}

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if not self.tasks or len(set(self.tasks)) != len(self.tasks):
            raise ValueError("tasks must name a target first and each task once")
        for name in self.tasks:
            if name not in self.task:
                known = ", ".join(BUILT_IN)
                raise ValueError(f"task {name!r} is not built in ({known}); describe it in [task.{name}]")
        strangers = set() if self.sampling.tasks == "all" else set(self.sampling.tasks) - set(self.tasks)
        if strangers:
            raise ValueError(f"sampling.tasks names {min(strangers)!r}, which is none of the tasks")
        if self.tasks[0] not in self.trained:
            raise ValueError(f"the target {self.tasks[0]!r} must be trained; add it to sampling.tasks")
        return self


def _named_after(name: str) -> dict[str, str]:
    """Return how the files of a task of one's own are called."""
    return {
        "train": f"{name}-train*",
        "test": f"{name}-test*",
        "unlabelled": f"{name}-unlabelled*",
        "predictions": name,
        "column": f"Predicted_{name}",
    }
