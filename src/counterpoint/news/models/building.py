"""From a recipe to a recommender, fresh or saved: every part by its name."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float32
from torch import nn

from counterpoint.encoders.tokens import Tokenizer
from counterpoint.encoders.words import WordVectors, phrase_vector
from counterpoint.errors import CounterpointError, UsageError
from counterpoint.news.data.store import Store
from counterpoint.news.models.articles import (
    Alone,
    ArticleEncoder,
    Attentive,
    Concatenation,
    Entities,
    Lookup,
)
from counterpoint.news.models.hierarchical import HierarchicalReader
from counterpoint.news.models.readers import (
    AttentiveReader,
    Everyone,
    RecurrentReader,
    SelfAttentiveReader,
)
from counterpoint.news.models.recommender import ContextScore, Dot, Recommender, ScaledCosine
from counterpoint.news.models.texts import TextEncoders, fresh_texts, pretrained_in, saved_texts
from counterpoint.news.models.vocabulary import Vocabulary, labels_of, readers_of
from counterpoint.news.recipe import NewsRecipe
from counterpoint.news.tasks import TASKS
from counterpoint.runs.folder import ModelFolder
from counterpoint.storage.files import read_json, write_json
from counterpoint.training.checkpoint import load_weights, save_weights


def fresh(recipe: NewsRecipe, store: Store, words: WordVectors | None = None) -> Recommender:
    """Return the model that training starts from; all that is drawn comes from torch's generator.

    The store takes over the model's numbers.

    Args:
        recipe: the recipe.
        store: what it is to learn from.
        words: those of the recipe's file of word vectors, if it names one.

    Raises:
        CounterpointError: a task has no labels in this store.
        UsageError: the encoder or the word vectors cannot be loaded.
    """
    texts, table = fresh_texts(recipe, words)
    labels, sizes = labels_of(store, recipe), _sizes(recipe, store, words)
    vocabulary = Vocabulary(labels, sizes, table, readers_of(store, recipe))
    model = build(recipe, vocabulary, texts)
    store.use_labels(dict(labels))
    for name, head in model.heads.items():
        TASKS[name].prepare(head, store, recipe)
    _start_lookups(model.articles, store, labels, words)
    return model


def save(model: Recommender, store: Store, tokenizer: Tokenizer, folder: Path) -> None:
    """Write weights, configuration, names and tokenizer: all that loading needs, and no code."""
    save_weights(model, ModelFolder(folder).weights)
    encoder = pretrained_in(model)
    if encoder is not None:
        encoder.save_config(ModelFolder(folder).encoder)
    tokenizer.pretrained.save_pretrained(ModelFolder(folder).encoder)
    write_json(
        ModelFolder(folder).description,
        {
            "tokenizer": store.manifest["tokenizer"],
            "vocabulary": model.vocabulary.to_json(),
            "encoder": {} if encoder is None else encoder.description(),
        },
    )


def load(folder: Path, recipe: NewsRecipe, store: Store) -> Recommender:
    """Return the model in ``folder``, ready to score; only a base under adapters is looked up elsewhere.

    The ``store`` takes over the model's numbers: other data numbers its categories otherwise.

    Raises:
        CounterpointError: the folder is incomplete, or the base of its adapters is not there.
    """
    facts = read_json(ModelFolder(folder).description)
    vocabulary = Vocabulary.from_json(facts["vocabulary"])
    if facts["encoder"] and not (ModelFolder(folder).encoder / "config.json").is_file():
        raise CounterpointError(f"{folder}: the encoder's configuration is missing; train again.")
    texts = saved_texts(recipe, vocabulary, ModelFolder(folder).encoder, facts["encoder"])
    model = build(recipe, vocabulary, texts)
    load_weights(model, ModelFolder(folder).weights)
    store.use_labels(dict(vocabulary.labels))
    return model.eval()


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


def _sizes(recipe: NewsRecipe, store: Store, words: WordVectors | None) -> dict[str, int]:
    """Return how long vectors of names are: as in the files they come from, else as the recipe says."""
    section = recipe.articles
    names = section.category_size if words is None else words.vectors.shape[1]
    given = store.entity_vectors() if "entities" in section.fields else None
    return {
        "category": names,
        "subcategory": names,
        "entities": section.entity_size if given is None else given[1].shape[1],
    }


def _start_lookups(
    articles: ArticleEncoder, store: Store, labels: Mapping[str, list[str]], words: WordVectors | None
) -> None:
    """Give categories the vectors of their names' words, and entities those that came with the data."""
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
