"""The word vectors of a recipe, read once for tokenizer, encoder and category names."""

from functools import lru_cache
from pathlib import Path

from counterpoint.encoders.pretrained import load_tokenizer
from counterpoint.encoders.tokens import Tokenizer
from counterpoint.encoders.words import WordVectors, read_word_vectors, word_tokenizer
from counterpoint.news.recipe import Encoder


def word_vectors(file: Path, most: int) -> WordVectors:
    """Return the first ``most`` vectors of a file; the last file read is kept."""
    return _read(file, most, file.stat().st_mtime_ns if file.is_file() else 0)


def tokenizer_of(encoder: Encoder) -> Tokenizer:
    """Return the tokenizer that an encoder's texts are split by."""
    if encoder.words is None:
        return load_tokenizer(encoder.name, encoder.revision)
    file = Path(encoder.words)
    return word_tokenizer(word_vectors(file, encoder.most_words).words, str(file))


@lru_cache(maxsize=1)
def _read(file: Path, most: int, _changed: int) -> WordVectors:
    return read_word_vectors(file, most)
