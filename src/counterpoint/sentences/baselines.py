"""Floors: what no model, shared words or the encoder as it came reach on the very same rows."""

import hashlib
import re
from collections.abc import Callable, Mapping

import numpy as np
import torch
from jaxtyping import Float

from counterpoint.encoders.adapters import fingerprint
from counterpoint.errors import UsageError
from counterpoint.progress import Progress, named
from counterpoint.sentences.data.store import Rows, Store
from counterpoint.sentences.model import untrained
from counterpoint.sentences.recipe import SentencesRecipe, Task
from counterpoint.sentences.scoring import Answers, device_of, encode
from counterpoint.storage.files import cache_folder, new_file

_FITTED_ON = 2_000
"""Training pairs that the encoder floor's threshold is found on: encoding more would not move it."""

_WORD = re.compile(r"\w+")

Alike = Callable[[Rows], Float[np.ndarray, " rows"]]
"""How alike the two sentences of each row are."""


def floors(
    recipe: SentencesRecipe, store: Store, rows: Mapping[str, Rows], progress: Progress
) -> tuple[dict[str, dict[str, Answers]], list[str]]:
    """Return the answers of each floor to each task's rows, and what to say of a floor that is left out.

    - majority: the most frequent class, or the mean score, of the training rows.
    - word overlap: pairs by the share of their words that they have in common (Jaccard); a class above a
      threshold, a score on a line, both fitted to the training rows. Sentences by majority.
    - untrained encoder: the same with the cosine of the two vectors before any training.

    All are made of training rows: a task that has none in the store is left out of them.

    Args:
        recipe: names tasks and encoder.
        store: has the training rows.
        rows: of each task.
        progress: told how far the encoding is.
    """
    every = {name: store.rows(name, "train") for name in rows}
    train = {name: known for name, known in every.items() if len(known)}
    bare = [name for name in rows if name not in train]
    told = f"The floors, which are made of training rows, leave out {', '.join(bare)}: the data has none."
    warnings = [told] if bare else []
    if not train:
        return {}, warnings
    rows = {name: rows[name] for name in train}
    majority = {name: _constant(recipe.task[name], train[name], len(rows[name])) for name in rows}
    found = {"majority": majority}
    kinds: dict[str, Alike] = {"word overlap": lambda some: _overlap(store, some)}
    if any(recipe.task[name].sides == 2 for name in rows):
        try:
            kinds["untrained encoder"] = _cosine(recipe, store, named(progress, "untrained encoder"))
        except UsageError as error:
            warnings.append(f"The floor of the untrained encoder is left out: {error}")
        for kind, alike in kinds.items():
            found[kind] = {
                name: _by_likeness(recipe.task[name], alike, train[name], rows[name], majority[name])
                for name in rows
            }
    return found, warnings


def _constant(task: Task, train: Rows, rows: int) -> Answers:
    """Return the most frequent class, or the mean score, for every row."""
    if task.classes is None:
        return Answers(np.full(rows, train.labels.mean()))
    counts = np.bincount(train.labels.astype(np.int64), minlength=task.classes)
    return Answers(np.full(rows, float(counts.argmax())))


def _by_likeness(task: Task, alike: Alike, train: Rows, rows: Rows, otherwise: Answers) -> Answers:
    """Answer pairs by how alike their sentences are; else, as told ``otherwise``."""
    if task.sides == 1 or task.classes not in (None, 2):
        return otherwise
    chosen = np.unique(np.linspace(0, len(train) - 1, min(len(train), _FITTED_ON)).round().astype(np.int64))
    fitted = train.of(chosen)
    known, asked = alike(fitted), alike(rows)
    if task.classes == 2:
        return Answers((asked >= threshold(known, fitted.labels)).astype(np.float64))
    slope, middle = _line(known, fitted.labels)
    return Answers(middle + slope * asked)


def threshold(values: Float[np.ndarray, " rows"], labels: Float[np.ndarray, " rows"]) -> float:
    """Return the value from which on to answer 1, so that most labels are met; infinite for never."""
    order = np.argsort(values, kind="stable")
    ones = labels[order] == 1
    # At place k, the k smallest values are answered 0 and all others 1.
    right = np.concatenate(([0], np.cumsum(~ones))) + ones.sum() - np.concatenate(([0], np.cumsum(ones)))
    cuts = np.append(values[order], np.inf)
    possible = np.append(np.diff(np.concatenate(([-np.inf], values[order]))) > 0, True)
    return float(cuts[np.where(possible, right, -1).argmax()])


def _line(values: Float[np.ndarray, " rows"], labels: Float[np.ndarray, " rows"]) -> tuple[float, float]:
    """Return slope and height of the least-squares line."""
    around = values - values.mean()
    square = float((around**2).sum())
    slope = float((around * labels).sum()) / square if square else 0.0
    return slope, float(labels.mean() - slope * values.mean())


def _overlap(store: Store, rows: Rows) -> Float[np.ndarray, " rows"]:
    """Return the Jaccard index of each pair's words, lower case; 0 where neither has any."""
    sides = [[set(_WORD.findall(text.lower())) for text in store.texts(side)] for side in rows.sentences]
    pairs = zip(*sides, strict=True)
    return np.array([len(one & other) / max(len(one | other), 1) for one, other in pairs], dtype=np.float64)


def _cosine(recipe: SentencesRecipe, store: Store, progress: Progress) -> Alike:
    """Return the cosine of untrained vectors; what one model's evaluation computed, another's reads."""
    encoder = untrained(recipe)
    if torch.accelerator.is_available():
        encoder.to(torch.accelerator.current_accelerator())
    device = device_of(encoder)
    weights = fingerprint(dict(encoder.named_parameters()))

    def alike(rows: Rows) -> Float[np.ndarray, " rows"]:
        every, place = np.unique(rows.sentences, return_inverse=True)
        pieces = store.pieces(every)
        told = f"{weights} {encoder.pooling} {encoder.halves(device)} {place.tolist()}".encode()
        digest = hashlib.sha256(told + b"".join(piece.tobytes() + b"." for piece in pieces))
        file = cache_folder() / "cosines" / f"{digest.hexdigest()[:16]}.npy"
        if file.is_file():
            kept: Float[np.ndarray, " rows"] = np.load(file, allow_pickle=False)
            return kept
        vectors = encode(lambda texts: encoder(texts)[1], device, store.frame, pieces, progress=progress)
        unit = torch.nn.functional.normalize(vectors, dim=1).numpy()
        first, second = place.reshape(rows.sentences.shape)
        cosines: Float[np.ndarray, " rows"] = (unit[first] * unit[second]).sum(axis=1).astype(np.float64)
        with new_file(file) as path, path.open("wb") as stream:
            np.save(stream, cosines)
        return cosines

    return alike
