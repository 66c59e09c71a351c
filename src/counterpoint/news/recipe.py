"""The news workload's part of the recipe."""

from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from counterpoint.errors import UsageError
from counterpoint.runs.recipe import Adapter, Recipe, Section

TaskName = Literal["click", "category", "entities", "sentiment", "sentiment_score", "read_time", "scroll"]
FieldName = Literal["title", "subtitle", "abstract", "body", "category", "subcategory", "entities", "article"]
Feature = Literal["age", "clicks"]
Seen = Literal["history", "candidates", "both"]

TEXTS: tuple[FieldName, ...] = ("title", "subtitle", "abstract", "body")

LEAKING = {
    "next_read_time": "it is how long the article of the coming click was read",
    "next_scroll_percentage": "it is how far the article of the coming click was scrolled",
    "total_inviews": "it is summed over the whole period, days yet to come included",
    "total_pageviews": "it is summed over the whole period, days yet to come included",
    "total_read_time": "it is summed over the whole period, days yet to come included",
}
"""Columns of EB-NeRD that are never read, and why: each tells something of the clicks to be predicted."""


class Data(Section):
    """What is read from the prepared store."""

    max_title_tokens: int = Field(20, ge=3, le=512, description="word pieces, special tokens included")
    max_text_tokens: int = Field(50, ge=3, le=512, description="of subtitle, abstract and body, each")
    max_history: int = Field(50, ge=1, description="most recent clicks seen by the reader encoder")
    negatives: int = Field(4, ge=1, description="non-clicks beside each click, from the same impression")
    validation_days: int = Field(1, ge=1, description="last training days, kept for validation")
    test_days: int = Field(1, ge=1, description="last days kept for testing where no folder is")
    sentiment: Literal["given", "vader"] = Field(
        "given", description="the data's own labels, or VADER's of English titles (extra 'sentiment')"
    )


class Encoder(Section):
    """The text encoder: any Hugging Face encoder, or a shallow one over word vectors."""

    kind: Literal["pretrained", "convolution", "self_attention"] = "pretrained"
    name: str = Field("minilm", description="'minilm' (in extra 'demo'), a hub name or a folder")
    revision: str | None = Field(None, description="the hub's revision")
    pooling: Literal["auto", "mean", "cls"] = Field("auto", description="auto: mean for MiniLM, else cls")
    dropout: float = Field(0.0, ge=0, lt=1)
    random_weights: bool = Field(False, description="start from the configuration alone")
    lora: Adapter | None = Field(None, description="train low-rank additions instead of the weights")
    frozen_layers: int = Field(0, ge=0, description="lowest layers that stay as they are, output cached")
    words: str | None = Field(
        None, description="GloVe file of a shallow encoder; else the word table of 'name'"
    )
    most_words: int = Field(100_000, ge=1, description="words read from that file")
    size: int = Field(400, ge=1, description="numbers in a shallow encoder's vector")
    heads: int = Field(20, ge=1, description="of self-attention; they divide the size")
    window: int = Field(3, ge=1, description="of the convolution, in words; odd")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.kind == "pretrained" and self.words is not None:
            raise ValueError(
                "words belong to a shallow encoder; set kind to 'convolution' or 'self_attention'"
            )
        if self.kind != "pretrained" and (self.lora or self.frozen_layers):
            raise ValueError("lora and frozen_layers need kind = 'pretrained'")
        if self.kind == "self_attention" and self.size % self.heads:
            raise ValueError(f"{self.heads} heads do not divide a size of {self.size}")
        if self.window % 2 == 0:
            raise ValueError(
                f"window must be odd, so that a word stands in its middle; {self.window} is even"
            )
        return self


class Articles(Section):
    """What an article is made of, and how its parts become one vector (paper 1, section 2.2)."""

    fields: tuple[FieldName, ...] = Field(("title",), min_length=1)
    fusion: Literal["attention", "concatenation", "dense"] = Field(
        "attention",
        description="attentive multi-field learning (paper 1, eq. 4); side by side; a dense layer over that",
    )
    align: Literal["linear", "relu"] = Field(
        "linear", description="the layer that brings other fields to the first one's size"
    )
    category_size: int = Field(100, ge=1, description="numbers in a category's vector")
    entity_size: int = Field(100, ge=1, description="numbers in an entity's vector, where learned")
    entity_heads: int = Field(0, ge=0, description="self-attention among an article's entities; 0: none")
    article_size: int = Field(64, ge=1, description="numbers in the vector of field 'article', the id")
    query_size: int = Field(200, ge=1)
    dropout: float = Field(0.0, ge=0, lt=1, description="of the article's vector")

    @field_validator("fields")
    @classmethod
    def _distinct(cls, fields: tuple[FieldName, ...]) -> tuple[FieldName, ...]:
        if len(set(fields)) != len(fields):
            raise ValueError("name each field once")
        return fields

    @model_validator(mode="after")
    def _heads(self) -> Self:
        if self.entity_heads and self.entity_size % self.entity_heads:
            raise ValueError(f"{self.entity_heads} heads do not divide an entity_size of {self.entity_size}")
        return self


class Reader(Section):
    """The reader encoder."""

    kind: Literal["additive", "recurrent", "self_attention", "hierarchical", "everyone"] = Field(
        "additive",
        description="paper 1, eq. 1; LSTUR's; NRMS's; HieRec's; or one vector for everyone",
    )
    query_size: int = Field(200, ge=1)
    heads: int = Field(20, ge=1, description="of self-attention; they divide the article's size")
    embedding: Literal["initial", "concatenated"] = Field(
        "initial", description="LSTUR's reader embedding: the GRU's first state, or beside its last"
    )
    embedding_dropout: float = Field(0.5, ge=0, lt=1, description="share of reader embeddings left out")
    subtopic_weight: float = Field(0.7, ge=0, le=1, description="HieRec's λ of the subtopic's interest")
    topic_weight: float = Field(0.15, ge=0, le=1, description="HieRec's λ of the topic's interest")

    @model_validator(mode="after")
    def _weights(self) -> Self:
        if self.subtopic_weight + self.topic_weight > 1:
            raise ValueError("subtopic_weight and topic_weight must leave something for the overall interest")
        return self


class Click(Section):
    """The target task (paper 1, eqs. 2 and 3)."""

    score: Literal["dot", "scaled_cosine"] = "dot"
    context: tuple[Feature, ...] = Field(
        (), description="of candidates at the impression: age; clicks in the last hours"
    )
    clicks_hours: float = Field(24.0, gt=0, description="how far 'clicks' looks back")

    @field_validator("context", mode="before")
    @classmethod
    def _known_before(cls, names: Any) -> Any:
        for name in names if isinstance(names, list | tuple) else [names]:
            if name in LEAKING:
                raise UsageError(
                    f"{name!r} cannot be an input: {LEAKING[name]}, which nobody knows yet when the articles "
                    "are ranked; leave it out."
                )
        return names


class Auxiliary(Section):
    """An auxiliary task."""

    weight: float = Field(1.0, gt=0, description="of its loss, before the gradients are balanced")
    articles: Seen = Field("both", description="which articles of a batch it learns from")


class Category(Auxiliary):
    """Category classification (paper 1, eqs. 5 and 6)."""

    field: Literal["category", "subcategory"] = "category"


class Entities(Auxiliary):
    """Entity tagging (paper 1, eqs. 7 and 8)."""

    scheme: Literal["bio", "bio-typed"] = "bio"
    average: Literal["title", "token"] = Field(
        "title", description="title: sum over a title's tokens (eq. 8)"
    )


class Minutes(Section):
    """What a reader did with the articles of the history: seconds read, percent scrolled."""

    weight: float = Field(1.0, gt=0, description="of its loss, before the gradients are balanced")


class NewsRecipe(Recipe):
    """A news run: tasks[0] is the target task, the others are auxiliary."""

    workload: Literal["news"] = "news"
    tasks: tuple[TaskName, ...] = ("click", "category", "entities")
    auxiliary_share: float = Field(
        1.0, gt=0, le=1, description="share of the articles that auxiliary tasks see"
    )
    data: Data = Data()
    encoder: Encoder = Encoder()
    articles: Articles = Articles()
    reader: Reader = Reader()
    click: Click = Click()
    category: Category = Category()
    entities: Entities = Entities()
    sentiment: Auxiliary = Auxiliary()
    sentiment_score: Auxiliary = Auxiliary()
    read_time: Minutes = Minutes()
    scroll: Minutes = Minutes()

    @property
    def texts(self) -> tuple[FieldName, ...]:
        """The fields that are texts."""
        return tuple(field for field in self.articles.fields if field in TEXTS)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if not self.tasks or self.tasks[0] != "click" or len(set(self.tasks)) != len(self.tasks):
            raise ValueError("tasks must start with 'click' (the target) and name each task once")
        ask_titles = {"category", "entities", "sentiment", "sentiment_score"}.intersection(self.tasks)
        if ask_titles and "title" not in self.articles.fields:
            raise ValueError(f"task {min(ask_titles)!r} reads titles; add 'title' to articles.fields")
        if self.encoder.frozen_layers and self.texts != ("title",):
            raise ValueError("frozen_layers cache the titles alone; leave 'title' as the only text")
        return self
