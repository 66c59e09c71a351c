"""Word vectors, the tokenizer that goes with them, and the tables that training starts from."""

import codecs
import gzip
import math
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from io import BufferedIOBase
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn

from counterpoint.encoders.loading import load_encoder
from counterpoint.encoders.tokens import Tokenizer
from counterpoint.errors import BadRowError, CounterpointError
from counterpoint.progress import Progress, silent

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_TEXT, _UNKNOWN = "[TEXT]", "[UNK]"
_BLOCK_BYTES = 8 << 20

# What one token may be, tried in this order at every place; only white space is none.
_TOKENS = "|".join(
    (
        r"(?:\p{L}\.){2,}",  # initials with their points: u.s.
        r"n't\b",
        r"'(?:s|m|d|ll|re|ve)\b",
        r"\w+?(?=n't\b)",  # the do of don't
        r"\w+(?:(?<=\d)[.,]\d+)*",  # a word, or a number with its points and commas
        r"[^\w\s]",
    )
)


@dataclass(frozen=True)
class WordVectors:
    """Words, the most frequent ones first, and their vectors; no word stands twice."""

    words: list[str]
    vectors: Float32[np.ndarray, "words size"]

    @cached_property
    def rows(self) -> Mapping[str, int]:
        """The row of each word."""
        return {word: row for row, word in enumerate(self.words)}


def read_word_vectors(file: Path, most: int, progress: Progress = silent) -> WordVectors:
    """Return the words of the first ``most`` rows of a text file of word vectors, plain or ``.gz``.

    A row is a word and its numbers, separated by single spaces, as GloVe and word2vec write them; word2vec's
    header (how many words, how many numbers) may precede them. Else the first row tells how many numbers a
    row ends with: what stands before them is the word, which may contain spaces. A word that comes again is
    ignored.

    Raises:
        BadRowError: a row is not UTF-8, or not a word and as many numbers as the first.
        CounterpointError: the file cannot be read, or has no rows.
    """
    words: list[str] = []
    vectors: list[Float32[np.ndarray, "words size"]] = []
    size = 0
    for number, lines in _blocks(file, progress):
        if number == 1:
            lines[0] = lines[0].removeprefix(codecs.BOM_UTF8)
            fields = lines[0].rstrip(b" \t\r").split(b" ")
            header = len(fields) == 2 and all(field.isdigit() for field in fields)
            size = int(fields[1]) if header else len(fields) - 1
            number, lines = number + header, lines[header:]
        some, numbers = _parsed(file, number, lines[: most - len(words)], size)
        words += some
        vectors.append(numbers)
        if len(words) == most:
            break
    if not words:
        raise CounterpointError(f"{file}: no word vectors are in it; name a file that has some.")
    total = file.stat().st_size
    progress(f"reading {file.name}", total, total)
    first = np.flatnonzero(pl.Series(words).is_first_distinct())
    return WordVectors([words[row] for row in first], np.concatenate(vectors)[first])


def word_tokenizer(words: Sequence[str], name: str) -> Tokenizer:
    """Return a tokenizer of ``words`` that splits nearly as the Stanford tokenizer behind GloVe does.

    Tokens are words, numbers with their points and commas (1,000), initials (u.s.), the endings 's 'm 'd 'll
    're 've and n't on their own (do n't), and every other character that is no white space; words with a
    hyphen are three tokens, since the vectors know most parts and few compounds. Typographic apostrophes and
    quotation marks become plain ones. Letters are lowered unless more than one word in a hundred has a
    capital: a stray one in a file of lower-case words must not make every title's first word unknown.
    A special token, number 0, begins every text, so that none is empty; an unknown word is number 1; then
    come ``words``.

    Args:
        words: distinct, in the order of their vectors.
        name: what the tokenizer is called in errors.
    """
    from tokenizers import Regex, models, normalizers, pre_tokenizers, processors
    from tokenizers import Tokenizer as Backend
    from transformers import PreTrainedTokenizerFast

    numbers = {word: number for number, word in enumerate(words, 2)} | {_TEXT: 0, _UNKNOWN: 1}
    capitals = sum(word != word.lower() for word in words)
    lowered = [normalizers.Lowercase()] if 100 * capitals <= len(words) else []
    plain = [
        normalizers.Replace(Regex(r"[\u2018\u2019]"), "'"),
        normalizers.Replace(Regex(r"[\u201c\u201d]"), '"'),
    ]
    backend = Backend(models.WordLevel(numbers, unk_token=_UNKNOWN))
    backend.normalizer = normalizers.Sequence([normalizers.NFC(), *plain, *lowered])
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(f"(?i:{_TOKENS})"), behavior="removed", invert=True)
    backend.post_processor = processors.TemplateProcessing(
        single=f"{_TEXT} $A", special_tokens=[(_TEXT, numbers[_TEXT])]
    )
    pretrained = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=backend, cls_token=_TEXT, unk_token=_UNKNOWN
    )
    return Tokenizer(pretrained, name)


def word_embedding(vectors: WordVectors) -> nn.Embedding:
    """Return the trainable table whose rows are the tokens of `word_tokenizer`.

    The token before a text starts from zeros, as if nothing stood there; the unknown word from the mean of
    all words, which is the best guess at a vector and neither longer nor elsewhere than they are.
    """
    special = np.zeros((2, vectors.vectors.shape[1]), dtype=np.float32)
    special[1] = vectors.vectors.mean(0, dtype=np.float64)
    return _trainable(torch.from_numpy(np.concatenate([special, vectors.vectors])))


def pretrained_word_embedding(model_name: str, revision: str | None = None) -> nn.Embedding:
    """Return a trainable copy of the word table of a Hugging Face encoder.

    Raises:
        UsageError: the encoder cannot be loaded.
    """
    model: PreTrainedModel = load_encoder(model_name, revision=revision).model
    table = model.get_input_embeddings().weight
    assert isinstance(table, Tensor)
    return _trainable(table.detach().clone())  # a copy, so that nothing keeps the encoder in memory


def phrase_vector(vectors: WordVectors, phrase: str) -> Float32[np.ndarray, " size"] | None:
    """Return the mean vector of the words in a name such as ``home-garden`` or ``foodanddrink``.

    A part that is no word is cut into the words that are likeliest together, if there is such a cut.

    Returns:
        Nothing if no part of the name is known.
    """
    rows = [row for part in re.findall(r"[^\W_]+", phrase) for row in _rows(part, vectors.rows)]
    if not rows:
        return None
    mean: Float32[np.ndarray, " size"] = vectors.vectors[rows].mean(0)
    return mean


def _blocks(file: Path, progress: Progress) -> Iterator[tuple[int, list[bytes]]]:
    """Yield the lines of a file in blocks, each with the number of its first line."""
    try:
        with file.open("rb") as raw:
            total = file.stat().st_size
            stream: BufferedIOBase = gzip.GzipFile(fileobj=raw) if file.suffix == ".gz" else raw
            number, rest = 1, b""
            while chunk := stream.read(_BLOCK_BYTES):
                *lines, rest = (rest + chunk).split(b"\n")
                if lines:
                    yield number, lines
                    number += len(lines)
                progress(f"reading {file.name}", raw.tell(), total)
            if rest:
                yield number, [rest]
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise CounterpointError(
            f"{file}: cannot be read ({reason}); check the path or fetch the file again."
        ) from error


def _decoded(file: Path, number: int, lines: list[bytes]) -> list[str]:
    """Return lines as text."""
    block = b"\n".join(lines)
    try:
        return block.decode().split("\n") if lines else []
    except UnicodeDecodeError as error:
        line = number + block.count(b"\n", 0, error.start)
        remedy = "name a text file of word vectors in UTF-8, or its .gz"
        raise BadRowError(file, line, "word", "it is not UTF-8", remedy) from error


def _parsed(
    file: Path, number: int, lines: list[bytes], size: int
) -> tuple[list[str], Float32[np.ndarray, "words size"]]:
    """Return the words and numbers of lines, the first of which is line ``number``."""
    split = (
        pl.Series(_decoded(file, number, lines), dtype=pl.String).str.strip_chars_end(" \t\r").str.split(" ")
    )
    long = (split.list.len() > size).to_numpy() & (size > 0)
    rows = split.head(len(long) if long.all() else int(long.argmin())).to_frame("fields")
    of_word = pl.col("fields").list.len().cast(pl.Int64) - size
    rows = rows.select(
        numbers=pl.col("fields").list.tail(size),
        word=pl.col("fields").list.head(of_word).list.join(" "),
        # A word with a space that ends with a number is a word and too many numbers.
        more=(of_word > 1)
        & pl.col("fields").list.get(of_word - 1).cast(pl.Float32, strict=False).is_not_null(),
    )
    numbers = rows["numbers"].explode().cast(pl.Float32, strict=False).to_numpy()
    vectors: Float32[np.ndarray, "words size"] = numbers[: len(rows) * size].reshape(len(rows), size)
    sound = np.isfinite(vectors).all(1) & ~rows["more"].to_numpy()
    first_wrong = len(rows) if sound.all() else int(sound.argmin())
    if first_wrong < len(lines):
        wanted = f"{size} numbers, as in the first row" if size else "its numbers"
        problem = f"the row is not a word and {wanted}"
        raise BadRowError(file, number + first_wrong, "vector", problem, "fetch or write the file again")
    return rows["word"].to_list(), vectors


def _rows(part: str, rows: Mapping[str, int]) -> list[int]:
    """Return the row of a word, or those of the likeliest words of two letters or more that it is made of.

    The probability of a word follows from its rank by Zipf's law: ``1 / (rank · H)``.
    """
    for word in (part, part.lower()):
        if word in rows:
            return [rows[word]]
    text, harmonic = part.lower(), 1 + math.log(len(rows))
    best: list[tuple[float, list[int]]] = [(0.0, [])]
    for end in range(1, len(text) + 1):
        cuts = [
            (cost + math.log((row + 1) * harmonic), [*before, row])
            for start, (cost, before) in enumerate(best[: end - 1])
            if (row := rows.get(text[start:end])) is not None and cost < math.inf
        ]
        best.append(min(cuts, default=(math.inf, [])))
    return best[-1][1]


def _trainable(table: Float[Tensor, "words size"]) -> nn.Embedding:
    embedding: nn.Embedding = nn.Embedding.from_pretrained(table, freeze=False)  # type: ignore[no-untyped-call]
    return embedding
