"""From a recipe to a recommender: every part by its name."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32
from torch import Tensor, nn

from counterpoint.encoders.adapters import Lora
from counterpoint.encoders.convolution import ConvolutionEncoder
from counterpoint.encoders.pretrained import load_encoder, restore_encoder
from counterpoint.encoders.self_attention import SelfAttentionEncoder
from counterpoint.encoders.tokens import Texts
from counterpoint.encoders.words import phrase_vector, pretrained_word_embedding, word_embedding
from counterpoint.errors import UsageError
from counterpoint.news.data.store import Store
from counterpoint.news.models.articles import (
    Alone,
    ArticleEncoder,
    Attentive,
    Concatenation,
    Entities,
    Lookup,
)
from counterpoint.news.models.readers import (
    AttentiveReader,
    Everyone,
    HierarchicalReader,
    RecurrentReader,
    SelfAttentiveReader,
)
from counterpoint.news.models.recommender import Recommender
from counterpoint.news.models.scores import ContextScore, Dot, ScaledCosine
from counterpoint.news.models.vocabulary import Vocabulary, labels_of, readers_of
from counterpoint.news.models.words import word_vectors
from counterpoint.news.recipe import NewsRecipe
from counterpoint.news.tasks.auxiliary import TASKS

TextEncoders = Mapping[str, nn.Module]
Sizes = dict[str, int]


def fresh(recipe: NewsRecipe, store: Store) -> Recommender:
    """Return the model that training starts from; all that is drawn comes from torch's generator.

    The store takes over the model's numbers.

    Raises:
        CounterpointError: a task has no labels in this store.
        UsageError: the encoder or the word vectors cannot be loaded.
    """
    texts, words = fresh_texts(recipe)
    labels, sizes = labels_of(store, recipe), _sizes(recipe, store)
    vocabulary = Vocabulary(labels, sizes, words, readers_of(store, recipe))
    model = build(recipe, vocabulary, texts)
    store.use_labels(dict(labels))
    for name, head in model.heads.items():
        TASKS[name].prepare(head, store, recipe)
    _start_lookups(model.articles, recipe, store, labels)
    return model


def fresh_texts(recipe: NewsRecipe) -> tuple[TextEncoders, tuple[int, int]]:
    """Return the text encoders before training, and the size of a shallow one's table of words."""
    if not recipe.texts:
        return {}, (0, 0)
    section = recipe.encoder
    if section.kind == "pretrained":
        lora = None if section.lora is None else Lora(**section.lora.model_dump())
        encoder = load_encoder(
            section.name,
            revision=section.revision,
            pooling=section.pooling,
            dropout=section.dropout,
            random_weights=section.random_weights,
            lora=lora,
            frozen_layers=section.frozen_layers,
        )
        encoder.precision = recipe.training.precision
        return dict.fromkeys(recipe.texts, encoder), (0, 0)
    if section.words is not None:
        words = word_embedding(word_vectors(Path(section.words), section.most_words))
    else:
        words = pretrained_word_embedding(section.name, section.revision)
    return _shallow(recipe, words), (words.num_embeddings, words.embedding_dim)


def saved_texts(
    recipe: NewsRecipe, vocabulary: Vocabulary, folder: Path, description: dict[str, Any]
) -> TextEncoders:
    """Return the text encoders of a saved model, ready for their weights."""
    if not recipe.texts:
        return {}
    if recipe.encoder.kind == "pretrained":
        encoder = restore_encoder(folder, description)
        encoder.precision = recipe.training.precision
        return dict.fromkeys(recipe.texts, encoder)
    return _shallow(recipe, nn.Embedding(*vocabulary.words))


def build(recipe: NewsRecipe, vocabulary: Vocabulary, texts: TextEncoders) -> Recommender:
    """Return a recommender around its text encoders."""
    articles = _article_encoder(recipe, vocabulary, texts)
    labels, context = vocabulary.labels, recipe.click.context
    return Recommender(
        articles,
        _READERS[recipe.reader.kind](recipe, articles.size, vocabulary),
        _SCORES[recipe.click.score](),
        {
            name: TASKS[name].head(recipe, labels, articles.title_size, articles.size)
            for name in recipe.tasks[1:]
        },
        {name: getattr(recipe, name).weight for name in recipe.tasks[1:]},
        ContextScore(len(context)) if context else None,
        vocabulary,
    )


def untrained_titles(recipe: NewsRecipe) -> ArticleEncoder:
    """Return titles to vectors before any training: a floor, the same for all recipes with one tokenizer.

    It is the pretrained encoder, whatever the recipe trains; with a file of word vectors, their mean.
    Torch's generator is left as it was.
    """
    section, words = recipe.encoder, _word_file(recipe)
    encoder: nn.Module
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.training.seed)
        if words is not None:
            encoder = MeanOfWords(word_embedding(words))
        else:
            encoder = load_encoder(
                section.name,
                revision=section.revision,
                pooling=section.pooling,
                random_weights=section.random_weights,
            )
            encoder.precision = recipe.training.precision
        return ArticleEncoder({"title": encoder}, {}, Alone(int(encoder.size))).eval()


class MeanOfWords(nn.Module):
    """A text is the mean of its words' vectors."""

    def __init__(self, words: nn.Embedding) -> None:
        super().__init__()
        self.words, self.size = words, words.embedding_dim

    def forward(self, texts: Texts) -> tuple[Float[Tensor, "tokens size"], Float[Tensor, "texts size"]]:
        """Return the words' vectors and their means."""
        starts = torch.tensor((0, *texts.lengths), device=texts.tokens.device).cumsum(0)[:-1]
        means = nn.functional.embedding_bag(texts.tokens, self.words.weight, starts, mode="mean")
        return self.words(texts.tokens), means


def _shallow(recipe: NewsRecipe, words: nn.Embedding) -> TextEncoders:
    """Return one shallow encoder for each text; they share their words."""
    section, queries = recipe.encoder, recipe.articles.query_size
    if section.kind == "convolution":
        return {
            field: ConvolutionEncoder(words, section.size, section.window, queries, section.dropout)
            for field in recipe.texts
        }
    return {
        field: SelfAttentionEncoder(
            words, section.heads, section.size // section.heads, queries, section.dropout
        )
        for field in recipe.texts
    }


def _article_encoder(recipe: NewsRecipe, vocabulary: Vocabulary, texts: TextEncoders) -> ArticleEncoder:
    section = recipe.articles
    others: dict[str, Lookup | Entities] = {
        field: _OTHERS[field](recipe, vocabulary) for field in section.fields if field not in recipe.texts
    }
    sizes = [int(module.size) for module in (*texts.values(), *others.values())]  # type: ignore[arg-type]
    fusion: Alone | Attentive | Concatenation
    if len(sizes) == 1:
        fusion = Alone(sizes[0])
    elif section.fusion == "concatenation":
        fusion = Concatenation(sizes)
    elif section.fusion == "dense":
        fusion = Concatenation(sizes, sizes[0])
    else:
        fusion = Attentive(sizes, section.query_size, relu=section.align == "relu")
    return ArticleEncoder(texts, others, fusion, section.dropout)


def _category(field: str) -> Callable[[NewsRecipe, Vocabulary], Lookup]:
    return lambda _, vocabulary: Lookup(len(vocabulary.labels[field]), vocabulary.sizes[field])


def _entities(recipe: NewsRecipe, vocabulary: Vocabulary) -> Entities:
    section = recipe.articles
    return Entities(
        len(vocabulary.labels["entities"]),
        vocabulary.sizes["entities"],
        section.entity_heads,
        section.query_size,
        section.dropout,
    )


_OTHERS: dict[str, Callable[[NewsRecipe, Vocabulary], Lookup | Entities]] = {
    "category": _category("category"),
    "subcategory": _category("subcategory"),
    "entities": _entities,
    "article": lambda recipe, vocabulary: Lookup(
        len(vocabulary.labels["article"]), recipe.articles.article_size
    ),
}


def _recurrent(recipe: NewsRecipe, size: int, vocabulary: Vocabulary) -> RecurrentReader:
    section = recipe.reader
    if section.embedding == "concatenated" and size % 2:
        raise UsageError(
            f"recipe {recipe.name}: a concatenated reader embedding needs an even article size, not {size}; "
            "change encoder.size or articles.category_size."
        )
    return RecurrentReader(
        size,
        len(vocabulary.readers),
        concatenated=section.embedding == "concatenated",
        dropout=section.embedding_dropout,
    )


def _self_attentive(recipe: NewsRecipe, size: int, vocabulary: Vocabulary) -> SelfAttentiveReader:
    heads = recipe.reader.heads
    if size % heads:
        raise UsageError(
            f"recipe {recipe.name}: reader.heads = {heads} does not divide the article's {size} numbers; "
            "choose one that does."
        )
    return SelfAttentiveReader(size, heads, recipe.reader.query_size)


_READERS: dict[str, Callable[[NewsRecipe, int, Vocabulary], nn.Module]] = {
    "additive": lambda recipe, size, _: AttentiveReader(size, recipe.reader.query_size),
    "recurrent": _recurrent,
    "self_attention": _self_attentive,
    "hierarchical": lambda recipe, size, vocabulary: HierarchicalReader(
        size,
        len(vocabulary.labels["category"]),
        len(vocabulary.labels["subcategory"]),
        topic_weight=recipe.reader.topic_weight,
        subtopic_weight=recipe.reader.subtopic_weight,
    ),
    "everyone": lambda recipe, size, _: Everyone(size),
}

_SCORES: dict[str, type[Dot] | type[ScaledCosine]] = {"dot": Dot, "scaled_cosine": ScaledCosine}


def _sizes(recipe: NewsRecipe, store: Store) -> Sizes:
    """Return how long vectors of names are: as in the files they come from, else as the recipe says."""
    section, words = recipe.articles, _word_file(recipe)
    names = section.category_size if words is None else words.vectors.shape[1]
    given = store.entity_vectors() if "entities" in section.fields else None
    return {
        "category": names,
        "subcategory": names,
        "entities": section.entity_size if given is None else given[1].shape[1],
    }


def _start_lookups(
    articles: ArticleEncoder, recipe: NewsRecipe, store: Store, labels: Mapping[str, list[str]]
) -> None:
    """Give categories the vectors of their names' words, and entities those that came with the data."""
    words = _word_file(recipe)
    for field in ("category", "subcategory"):
        if words is not None and field in articles.others:
            _start(articles.others[field], [phrase_vector(words, name) for name in labels[field]])
    given = store.entity_vectors() if "entities" in articles.others else None
    if given is not None:
        vectors = dict(zip(given[0], given[1], strict=True))
        _start(articles.others["entities"], [vectors.get(name) for name in labels["entities"]])


def _start(module: nn.Module, vectors: list[Float32[np.ndarray, " size"] | None]) -> None:
    assert isinstance(module, Lookup | Entities)
    known: Bool[np.ndarray, " names"] = np.array([vector is not None for vector in vectors], dtype=bool)
    if known.any():
        zeros = np.zeros(module.size, dtype=np.float32)
        table = np.stack([zeros if vector is None else vector for vector in vectors])
        module.start_from(torch.from_numpy(table), torch.from_numpy(known))


def _word_file(recipe: NewsRecipe) -> Any:
    section = recipe.encoder
    return None if section.words is None else word_vectors(Path(section.words), section.most_words)
