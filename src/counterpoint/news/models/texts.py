"""The text encoders of a recipe, their tokenizer, and what their frozen layers make of all titles."""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from counterpoint.encoders.adapters import Lora
from counterpoint.encoders.frozen import StateCache, cache_key
from counterpoint.encoders.loading import load_encoder, load_tokenizer, restore_encoder
from counterpoint.encoders.pretrained import PretrainedEncoder
from counterpoint.encoders.shallow import ConvolutionEncoder, SelfAttentionEncoder
from counterpoint.encoders.tokens import Texts, Tokenizer
from counterpoint.encoders.words import (
    WordVectors,
    pretrained_word_embedding,
    read_word_vectors,
    word_embedding,
    word_tokenizer,
)
from counterpoint.news.data.store import Store
from counterpoint.news.features import packed
from counterpoint.news.models.articles import Alone, ArticleEncoder
from counterpoint.news.models.vocabulary import Vocabulary
from counterpoint.news.recipe import Encoder, NewsRecipe
from counterpoint.progress import Progress, silent
from counterpoint.storage.files import cache_folder

TextEncoders = Mapping[str, nn.Module]
_TITLES = 256  # sent through the frozen layers at once


def word_vectors(encoder: Encoder, progress: Progress = silent) -> WordVectors | None:
    """Return the vectors of a recipe's file of words; nothing where it names none."""
    if encoder.words is None:
        return None
    return read_word_vectors(Path(encoder.words), encoder.most_words, progress)


def tokenizer_of(encoder: Encoder, words: WordVectors | None) -> Tokenizer:
    """Return the tokenizer that an encoder's texts are split by; ``words`` are those of `word_vectors`."""
    if words is None:
        return load_tokenizer(encoder.name, encoder.revision)
    return word_tokenizer(words.words, str(encoder.words))


def fresh_texts(recipe: NewsRecipe, words: WordVectors | None) -> tuple[TextEncoders, tuple[int, int]]:
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
    table = (
        pretrained_word_embedding(section.name, section.revision) if words is None else word_embedding(words)
    )
    return _shallow(recipe, table), (table.num_embeddings, table.embedding_dim)


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


def untrained_titles(recipe: NewsRecipe, words: WordVectors | None = None) -> ArticleEncoder:
    """Return titles to vectors before any training: a floor, the same for all recipes with one tokenizer.

    It is the pretrained encoder, whatever the recipe trains; with a file of ``words``, their mean.
    Torch's generator is left as it was.
    """
    section = recipe.encoder
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


def pretrained_in(model: nn.Module) -> PretrainedEncoder | None:
    """Return the pretrained encoder of a model, if it has one."""
    return next((module for module in model.modules() if isinstance(module, PretrainedEncoder)), None)


def frozen_states(model: nn.Module, store: Store, progress: Progress) -> StateCache | None:
    """Return what frozen layers make of all titles, from the cache or computed now; none without any."""
    encoder = pretrained_in(model)
    if encoder is None or not encoder.frozen_layers:
        return None
    if torch.accelerator.is_available():
        model.to(torch.accelerator.current_accelerator())
    offsets = np.concatenate(([0], np.cumsum(store.title_lengths())))
    key = cache_key(encoder, f"{store.manifest['tokenizer']['fingerprint']} {_titles_hash(store)}")
    folder = cache_folder() / "states" / key
    cache = StateCache.open(folder, key)
    if cache is None:
        cache = StateCache.build(folder, key, encoder, _title_blocks(store), offsets, progress)
    return cache


def _titles_hash(store: Store) -> str:
    """Return what tells the tokens of all titles from any others."""
    every = np.arange(len(store.title_lengths()))
    tokens, lengths = store.texts("title", every)
    return hashlib.sha256(np.ascontiguousarray(tokens).tobytes() + lengths.tobytes()).hexdigest()[:16]


def _title_blocks(store: Store) -> Iterator[tuple[Int[np.ndarray, " texts"], Texts]]:
    """Yield all titles, shortest first, some at a time."""
    order = np.argsort(store.title_lengths(), kind="stable")
    for start in range(0, len(order), _TITLES):
        rows = order[start : start + _TITLES]
        yield rows, packed(*store.texts("title", rows)).texts


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
