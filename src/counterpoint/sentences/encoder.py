"""A trained model at work on any sentences: vectors, similarities, answers."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import torch
from jaxtyping import Float
from torch import Tensor

from counterpoint.encoders.tokens import Tokenizer, encode
from counterpoint.errors import UsageError, nearest
from counterpoint.files import new_file, write_blocks
from counterpoint.progress import Progress, silent
from counterpoint.sentences.data.rows import read_sentences
from counterpoint.sentences.model import SentenceModel
from counterpoint.sentences.packing import Pieces
from counterpoint.sentences.recipe import SentencesRecipe
from counterpoint.sentences.scoring import Answers, answered, device_of
from counterpoint.sentences.scoring import encode as vectors_of

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
        """Return the vector of each sentence, as the tasks' heads are given it.

        Raises:
            UsageError: there is no sentence, or one is empty.
        """
        return self._vectors(self._pieces(sentences), progress=progress).numpy()

    def similarity(self, first: str, second: str) -> float:
        """Return how similar two sentences are, by the first task of the recipe that scores pairs.

        The unit is the task's, 0 to 5 for the built-in one. Without such a task it is the cosine of the two
        vectors.

        Raises:
            UsageError: a sentence is empty.
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
            UsageError: no such task, a sentence is empty, or the task takes pairs where there are none.
        """
        known = self._recipe.tasks
        if task not in known:
            raise UsageError(f"no task is called {task!r}{nearest(task, known)}; known: {', '.join(known)}.")
        section = self._recipe.task[task]
        given = [first] if second is None else [first, second]
        if len(given) != section.sides or len(given[0]) != len(given[-1]):
            takes = "sentences alone" if section.sides == 1 else "pairs, as many second sentences as first"
            raise UsageError(f"the task {task!r} takes {takes}.")
        sides = [self._pieces(sentences) for sentences in given]
        if section.pair == "joint":
            vectors = [self._vectors(sides[0], sides[1])]
        else:
            vectors = [self._vectors(side) for side in sides]
        return answered(self._model, task, section, vectors)

    def embed_file(self, file: Path, out: Path, *, column: str, progress: Progress = silent) -> int:
        """Write the vector of every sentence of a file, in its order; return how many there are.

        Args:
            file: text with a sentence on each line (.txt), or CSV, TSV or JSON lines.
            out: Parquet with ``sentence`` and ``vector``, of which only a part is in memory at once, or .npy
                with the vectors alone.
            column: that has the sentences, where there are columns.
            progress: told how many sentences are encoded.

        Raises:
            UsageError: ``out`` is neither of the two.
            BadRowError: a sentence is empty.
            CounterpointError: the file or the column is missing.
        """
        if out.suffix not in (".parquet", ".npy"):
            raise UsageError(f"--out {out}: vectors are written as .parquet or .npy; name one of them.")
        blocks = (
            pl.DataFrame({"sentence": some, "vector": self.embed(some, progress=progress)})
            for sentences in read_sentences(file, column)
            for some in _batched(sentences.to_list())
        )
        if out.suffix == ".parquet":
            return write_blocks(out, blocks)
        vectors = np.concatenate([block["vector"].to_numpy() for block in blocks])
        with new_file(out) as path, path.open("wb") as stream:
            np.save(stream, vectors)
        return len(vectors)

    def _vectors(
        self, first: Pieces, second: Pieces | None = None, progress: Progress = silent
    ) -> Float[Tensor, "texts size"]:
        device = device_of(self._model)
        return vectors_of(self._model.vectors, device, self._frame, first, second, progress)

    def _pieces(self, sentences: Sequence[str]) -> Pieces:
        if not sentences:
            raise UsageError("no sentence is given; give one at least.")
        for place, sentence in enumerate(sentences, 1):
            if not sentence.strip():
                raise UsageError(f"sentence {place} is empty; leave it out.")
        most = self._recipe.data.max_tokens - len(self._frame.before) - len(self._frame.after)
        found = encode(self._tokenizer, [each.strip() for each in sentences], most, special=False)
        return [np.array(one.ids, dtype=np.int64) for one in found]


def _batched(sentences: Sequence[str]) -> Iterator[Sequence[str]]:
    """Yield some sentences at a time."""
    for start in range(0, len(sentences), _BLOCK):
        yield sentences[start : start + _BLOCK]
