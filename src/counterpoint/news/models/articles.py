"""From what is known of an article to one vector: texts, categories, entities, and their fusion."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple, Protocol, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from counterpoint.encoders.attention import AdditiveAttention, MultiHeadSelfAttention
from counterpoint.encoders.tokens import Texts
from counterpoint.news.features import ArticleFeatures, PackedTexts


class TextEncoder(Protocol):
    """What every text encoder gives, shallow or pretrained."""

    size: int

    def __call__(self, texts: Texts) -> tuple[Float[Tensor, "tokens size"], Float[Tensor, "texts size"]]:
        """Return the states of all tokens and the vector of each text."""
        ...


class Encoded(NamedTuple):
    """What the article encoder makes of some articles.

    Attributes:
        articles: one vector each.
        titles: the title's own vector, before any other field; the article's where no title is read.
        states: of the titles' tokens; none where no title is read.
    """

    articles: Float[Tensor, "articles size"]
    titles: Float[Tensor, "articles title_size"]
    states: Float[Tensor, "tokens title_size"]


class ArticleEncoder(nn.Module):
    """An encoder for each field, and a fusion where there are several.

    Args:
        texts: the text encoder of each text field; one object may serve several.
        others: encoders of the fields that are no texts.
        fusion: makes one vector of the fields' vectors, in the order texts, others.
        dropout: of the result, while training.
    """

    def __init__(
        self,
        texts: Mapping[str, nn.Module],
        others: Mapping[str, "Lookup | Entities"],
        fusion: "Attentive | Concatenation | Alone",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.texts = nn.ModuleDict(texts)
        self.others = nn.ModuleDict(others)
        self.fusion = fusion
        self.dropout = nn.Dropout(dropout)

    @property
    def size(self) -> int:
        """Numbers in an article's vector."""
        return self.fusion.size

    @property
    def title_size(self) -> int:
        """Numbers in a title's vector."""
        return self.text("title").size if "title" in self.texts else self.size

    def text(self, field: str) -> TextEncoder:
        """Return the encoder of a text field."""
        return cast(TextEncoder, self.texts[field])

    def shared_parameters(self) -> Iterator[nn.Parameter]:
        """Yield what learns from titles; without titles, everything that learns."""
        has_titles = "title" in self.texts
        module = self.texts["title"] if has_titles else self
        return (parameter for parameter in module.parameters() if parameter.requires_grad)

    def forward(self, features: ArticleFeatures) -> Encoded:
        """Return the vectors of articles."""
        fields: list[Float[Tensor, "articles size"]] = []
        there: list[Bool[Tensor, " articles"]] = []
        states = None
        for field in self.texts:
            text = features.texts[field]
            lower = {} if features.lower is None or field != "title" else {"lower": features.lower}
            tokens, vectors = self.texts[field](text.texts, **lower)
            fields.append(_in_order(vectors, text))
            there.append(torch.ones(len(vectors), dtype=torch.bool, device=vectors.device))
            if field == "title":
                states = tokens
        for field in self.others:
            given = features.entities if field == "entities" else features.numbers[field]
            vectors, present = self.others[field](given)
            fields.append(vectors)
            there.append(present)
        articles = self.dropout(self.fusion(fields, there))
        titles = fields[list(self.texts).index("title")] if "title" in self.texts else articles
        return Encoded(
            articles, titles, articles.new_empty(0, articles.shape[1]) if states is None else states
        )


class Lookup(nn.Module):
    """A vector for each name of a list; row 0, the unknown, is no vector at all.

    Args:
        names: how many there are.
        size: numbers in a vector.
    """

    def __init__(self, names: int, size: int) -> None:
        super().__init__()
        self.size = size
        self.vectors = _names(names, size)

    def start_from(self, vectors: Float[Tensor, "names size"], known: Bool[Tensor, " names"]) -> None:
        """Give the known names their pretrained vectors."""
        with torch.no_grad():
            self.vectors.weight[1:][known] = vectors[known]

    def forward(
        self, numbers: Int[Tensor, " articles"]
    ) -> tuple[Float[Tensor, "articles size"], Bool[Tensor, " articles"]]:
        """Return the vectors and which articles have one."""
        return self.vectors(numbers), numbers > 0


class Entities(nn.Module):
    """An article's entities: their vectors, attention among them if asked for, additive attention over them.

    Args:
        names: how many entities there are.
        size: numbers in a vector.
        heads: of the self-attention (HieRec, Qi et al. 2021); 0: none.
        query_size: of the additive attention.
        dropout: of the vectors, while training.
    """

    def __init__(self, names: int, size: int, heads: int, query_size: int, dropout: float) -> None:
        super().__init__()
        self.size = size
        self.vectors = _names(names, size)
        self.dropout = nn.Dropout(dropout)
        self.attend = MultiHeadSelfAttention(size, heads, size // heads) if heads else None
        self.attention = AdditiveAttention(size, query_size)

    def start_from(self, vectors: Float[Tensor, "names size"], known: Bool[Tensor, " names"]) -> None:
        """Give the known entities their pretrained vectors."""
        with torch.no_grad():
            self.vectors.weight[1:][known] = vectors[known]

    def forward(
        self, numbers: Int[Tensor, "articles places"]
    ) -> tuple[Float[Tensor, "articles size"], Bool[Tensor, " articles"]]:
        """Return the vectors and which articles have any entity."""
        real = numbers >= 0
        vectors = self.dropout(self.vectors(numbers + 1))
        if self.attend is not None:
            vectors = self.dropout(self.attend(vectors, real))
        weights = self.attention.weights(self.attention.logits(vectors), real)
        return torch.einsum("ap,aps->as", weights, vectors), real.any(1)


class Alone(nn.Module):
    """One field is the article."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(
        self, fields: list[Float[Tensor, "articles size"]], there: list[Bool[Tensor, " articles"]]
    ) -> Float[Tensor, "articles size"]:
        """Return the only field's vectors."""
        return fields[0]


class Attentive(nn.Module):
    """Attentive multi-field learning: ``Σ wᵢ rᵢ``, ``wᵢ = softmax(q · tanh(W rᵢ))`` (paper 1, eq. 4).

    The first field keeps its vectors; a dense layer brings the others to their size (paper 1, appendix A).
    A field that an article does not have gets no weight.

    Args:
        sizes: numbers in the vectors of each field.
        query_size: of the attention.
        relu: behind the dense layers, as NAML has it (Wu et al. 2019a).
    """

    def __init__(self, sizes: list[int], query_size: int, *, relu: bool = False) -> None:
        super().__init__()
        self.size = sizes[0]
        self.align = nn.ModuleList(nn.Linear(size, self.size) for size in sizes[1:])
        self.activation = nn.ReLU() if relu else nn.Identity()
        self.attention = AdditiveAttention(self.size, query_size)

    def forward(
        self, fields: list[Float[Tensor, "articles _"]], there: list[Bool[Tensor, " articles"]]
    ) -> Float[Tensor, "articles size"]:
        """Return one vector an article."""
        aligned = [
            self.activation(layer(vectors)) for layer, vectors in zip(self.align, fields[1:], strict=True)
        ]
        stacked = torch.stack([fields[0], *aligned], dim=1)
        weights = self.attention.weights(self.attention.logits(stacked), torch.stack(there, dim=1))
        return torch.einsum("af,afs->as", weights, stacked)


class Concatenation(nn.Module):
    """The fields side by side, zeros where an article has none; a dense layer behind them if asked for.

    Args:
        sizes: numbers in the vectors of each field.
        out: numbers in the result; nothing: as many as the fields have together.
    """

    def __init__(self, sizes: list[int], out: int | None = None) -> None:
        super().__init__()
        self.size = sum(sizes) if out is None else out
        self.dense = nn.Identity() if out is None else nn.Linear(sum(sizes), out)

    def forward(
        self, fields: list[Float[Tensor, "articles _"]], there: list[Bool[Tensor, " articles"]]
    ) -> Float[Tensor, "articles size"]:
        """Return one vector an article."""
        kept = [vectors * real[:, None] for vectors, real in zip(fields, there, strict=True)]
        together: Tensor = self.dense(torch.cat(kept, dim=1))
        return together


def _in_order(vectors: Float[Tensor, "articles size"], text: PackedTexts) -> Float[Tensor, "articles size"]:
    """Return vectors of packed texts in the order of their articles."""
    return vectors if text.place is None else nn.functional.embedding(text.place, vectors)


def _names(names: int, size: int) -> nn.Embedding:
    """Return a table of small random vectors behind a row of zeros, which stays so."""
    table = nn.Embedding(names + 1, size, padding_idx=0)
    nn.init.normal_(table.weight[1:], std=0.1)
    return table
