"""The news workload's part of the recipe."""

from typing import Literal, Self

from pydantic import Field, model_validator

from counterpoint.recipe import Recipe, Section

TaskName = Literal["click", "category", "entities"]


class Data(Section):
    """What is read from the prepared store."""

    max_title_tokens: int = Field(20, ge=3, le=512, description="word pieces, special tokens included")
    max_history: int = Field(50, ge=1, description="most recent clicks seen by the reader encoder")
    negatives: int = Field(4, ge=1, description="non-clicks beside each click, from the same impression")
    validation_days: int = Field(1, ge=1, description="last training days, kept for validation")
    test_days: int = Field(1, ge=1, description="last days kept for testing where no folder is")


class Encoder(Section):
    """The article encoder: any Hugging Face encoder."""

    name: str = Field("minilm", description="'minilm' (in extra 'demo'), a hub name or a folder")
    revision: str | None = Field(None, description="the hub's revision")
    pooling: Literal["auto", "mean", "cls"] = Field("auto", description="auto: mean for MiniLM, else cls")
    dropout: float = Field(0.0, ge=0, lt=1)
    random_weights: bool = Field(False, description="start from the configuration alone")


class Model(Section):
    """The reader encoder and the click predictor (paper 1, eqs. 1 and 2)."""

    query_size: int = Field(200, ge=1)
    score: Literal["dot", "scaled_cosine"] = "dot"


class Category(Section):
    """Category classification (paper 1, eqs. 5 and 6)."""

    field: Literal["category", "subcategory"] = "category"


class Entities(Section):
    """Entity tagging (paper 1, eqs. 7 and 8)."""

    scheme: Literal["bio", "bio-typed"] = "bio"
    average: Literal["title", "token"] = Field(
        "title", description="title: sum over a title's tokens (eq. 8)"
    )


class NewsRecipe(Recipe):
    """A news run: tasks[0] is the target task, the others are auxiliary."""

    workload: Literal["news"] = "news"
    tasks: tuple[TaskName, ...] = ("click", "category", "entities")
    auxiliary_share: float = Field(
        1.0, gt=0, le=1, description="share of the titles that auxiliary tasks see"
    )
    data: Data = Data()
    encoder: Encoder = Encoder()
    model: Model = Model()
    category: Category = Category()
    entities: Entities = Entities()

    @model_validator(mode="after")
    def _click_first(self) -> Self:
        if not self.tasks or self.tasks[0] != "click" or len(set(self.tasks)) != len(self.tasks):
            raise ValueError("tasks must start with 'click' (the target) and name each task once")
        return self
