"""A trained model at work on any sentences: vectors, similarities, answers."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import polars as pl
import torch
from jaxtyping import Float
from torch import Tensor

from counterpoint.encoders.tokens import Encoded, Tokenizer, encode
from counterpoint.errors import ArgumentError, CounterpointError, UsageError, nearest
from counterpoint.progress import Progress, silent
from counterpoint.sentences.batches import Pieces
from counterpoint.sentences.data.formats.sentences import read_sentences
from counterpoint.sentences.model import SentenceModel
from counterpoint.sentences.recipe import SentencesRecipe
from counterpoint.sentences.scoring import Answers, answered, device_of
from counterpoint.sentences.scoring import encode as vectors_of
from counterpoint.storage.files import new_file, write_blocks

_BLOCK = 8_192
"""Sentences of which vectors are in memory at once."""


class SentenceEncoder:
    """A trained model with its tokenizer.

    Args:
        model: the model.
        recipe: it was trained with.
        tokenizer: it was trained with.
    """

    def __init__(self, model: SentenceModel, recipe: SentencesRecipe, tokenizer: Tokenizer) -> None:
        self._model, self._recipe, self._tokenizer = model.eval(), recipe, tokenizer
        self._frame = tokenizer.frame()

    def embed(
        self, sentences: Sequence[str], *, progress: Progress = silent
    ) -> Float[np.ndarray, "sentences size"]:
        """Return the vector of each sentence, as the tasks' heads are given it; long ones are cut.

        Raises:
            UsageError: there is no sentence, or one is empty or no text.
        """
        return self._vectors(_pieces(self._encoded(sentences)), progress=progress).numpy()

    def similarity(self, first: str, second: str) -> float:
        """Return how similar two sentences are, by the first task of the recipe that scores pairs.

        The unit is the task's, 0 to 5 for the built-in one. Without such a task it is the cosine of the two
        vectors.

        Raises:
            UsageError: a sentence is empty or no text.
        """
        for name in self._recipe.tasks:
            task = self._recipe.task[name]
            if task.scores is not None and task.sides == 2:
                return float(self.answers(name, [first], [second]).values[0])
        one, other = torch.from_numpy(self.embed([first, second]))
        return float(torch.nn.functional.cosine_similarity(one, other, dim=0))

    def answers(self, task: str, first: Sequence[str], second: Sequence[str] | None = None) -> Answers:
        """Return a task's classes or scores of sentences, or of pairs.

        Args:
            task: its name.
            first: the sentences, or the pairs' first ones.
            second: the pairs' second ones.

        Raises:
            UsageError: no such task, a sentence is empty or no text, or the task takes pairs where there are
                none.
        """
        known = self._recipe.tasks
        if task not in known:
            raise UsageError(f"no task is called {task!r}{nearest(task, known)}; known: {', '.join(known)}.")
        section = self._recipe.task[task]
        given = [first] if second is None else [first, second]
        if len(given) != section.sides or len(given[0]) != len(given[-1]):
            takes = "sentences alone" if section.sides == 1 else "pairs, as many second sentences as first"
            raise UsageError(f"the task {task!r} takes {takes}.")
        sides = [_pieces(self._encoded(sentences)) for sentences in given]
        if section.pair == "joint":
            vectors = [self._vectors(sides[0], sides[1])]
        else:
            vectors = [self._vectors(side) for side in sides]
        return answered(self._model, task, section, vectors)

    def embed_file(
        self,
        file: Path,
        out: Path,
        *,
        column: str,
        tell: Callable[[str], None] | None = None,
        progress: Progress = silent,
    ) -> int:
        """Write the vector of every sentence of a file, in its order; return how many there are.

        Args:
            file: text with a sentence on each line (.txt), or CSV, TSV or JSON lines.
            out: Parquet with ``sentence`` and ``vector``, of which only a part is in memory at once, or .npy
                with the vectors alone.
            column: that has the sentences, where there are columns.
            tell: given a sentence about how many were cut, if any were.
            progress: told how many sentences are encoded.

        Raises:
            UsageError: ``out`` is neither of the two.
            BadRowError: a sentence is empty.
            CounterpointError: the file or the column is missing, or there is no sentence in the file.
        """
        if out.suffix not in (".parquet", ".npy"):
            raise ArgumentError(
                "out", f"vectors are written as .parquet or .npy, and {out} is neither; name one of them"
            )
        counts: Counter[str] = Counter()
        blocks = self._embedded(file, column, counts, progress)
        first = next(blocks, None)
        if first is None:
            raise CounterpointError(f"{file}: there is no sentence in it; bring a file with one at least.")
        if out.suffix == ".parquet":
            write_blocks(out, chain([first], blocks))
        else:
            vectors = np.concatenate([block["vector"].to_numpy() for block in chain([first], blocks)])
            with new_file(out) as path, path.open("wb") as stream:
                np.save(stream, vectors)
        most, remedy = self._recipe.data.max_tokens, "train with a higher data.max_tokens"
        if tell is not None:
            for note in cut_notes(counts["cut"], counts["sentences"], most, remedy):
                tell(note)
        return counts["sentences"]

    def _embedded(
        self, file: Path, column: str, counts: Counter[str], progress: Progress
    ) -> Iterator[pl.DataFrame]:
        """Yield the sentences of a file with their vectors; count them, and those that are cut."""
        for sentences in read_sentences(file, column):
            for some in _batched(sentences.to_list()):
                encoded = self._encoded(some)
                counts["sentences"] += len(encoded)
                counts["cut"] += sum(one.truncated for one in encoded)
                vectors = self._vectors(_pieces(encoded), progress=progress).numpy()
                yield pl.DataFrame({"sentence": some, "vector": vectors})

    def _vectors(
        self, first: Pieces, second: Pieces | None = None, progress: Progress = silent
    ) -> Float[Tensor, "texts size"]:
        device = device_of(self._model)
        return vectors_of(self._model.vectors, device, self._frame, first, second, progress)

    def _encoded(self, sentences: Sequence[str]) -> list[Encoded]:
        if isinstance(sentences, str):
            raise UsageError("one text is given where sentences are asked for; put it into a list.")
        if len(sentences) == 0:
            raise UsageError("no sentence is given; give one at least.")
        for place, sentence in enumerate(sentences, 1):
            if not isinstance(sentence, str):
                raise UsageError(f"sentence {place} is no text ({str(sentence)[:40]!r}); leave it out.")
            if not sentence.strip():
                raise UsageError(f"sentence {place} is empty; leave it out.")
        most = self._recipe.data.max_tokens - len(self._frame.before) - len(self._frame.after)
        return encode(self._tokenizer, [each.strip() for each in sentences], most, special=False)


def cut_notes(cut: int, sentences: int, most: int, remedy: str) -> list[str]:
    """Return a sentence about how many sentences were cut at ``most`` word pieces, if any were."""
    were = "was" if cut == 1 else "were"
    told = f"{cut:,} of {sentences:,} sentences {were} cut at {most} word pieces"
    return [f"{told}; {remedy} to read more of them."] if cut else []


def _pieces(encoded: Sequence[Encoded]) -> Pieces:
    return [np.array(one.ids, dtype=np.int64) for one in encoded]


def _batched(sentences: Sequence[str]) -> Iterator[Sequence[str]]:
    """Yield some sentences at a time."""
    for start in range(0, len(sentences), _BLOCK):
        yield sentences[start : start + _BLOCK]
