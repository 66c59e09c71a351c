"""Answers without gradients: every distinct sentence encoded once, every jointly encoded pair once."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from counterpoint.encoders.tokens import Frame, Texts
from counterpoint.progress import Progress, silent
from counterpoint.sentences.batches import Pieces, pack
from counterpoint.sentences.data.store import Rows, Store
from counterpoint.sentences.heads import Sides
from counterpoint.sentences.model import SentenceModel
from counterpoint.sentences.recipe import Task

TEXTS = 256
"""Texts that the encoder takes at once."""

Encode = Callable[[Texts], Float[Tensor, "texts size"]]


@dataclass(frozen=True)
class Answers:
    """What a model says of some rows.

    Attributes:
        values: the most likely class, or the score.
        certainty: the probability of that class; of scores, nothing.
    """

    values: Float[np.ndarray, " rows"]
    certainty: Float[np.ndarray, " rows"] | None = None


def answers(
    model: SentenceModel,
    store: Store,
    tasks: Mapping[str, Task],
    rows: Mapping[str, Rows],
    progress: Progress = silent,
) -> dict[str, Answers]:
    """Return the answers of each task to its rows; the model's mode does not matter and stays as it is.

    Args:
        model: the model.
        store: where the sentences stand.
        tasks: by name.
        rows: of each task.
        progress: told how many texts are encoded.
    """
    training = model.training
    model.eval()
    found: dict[str, Answers] = {}
    apart = [name for name in rows if tasks[name].pair != "joint"]
    every = np.unique(
        np.concatenate([np.empty(0, np.int64), *(rows[name].sentences.ravel() for name in apart)])
    )
    vectors = encode(model.vectors, device_of(model), store.frame, store.pieces(every), progress=progress)
    for name, of_task in rows.items():
        if name in apart:
            places = np.searchsorted(every, of_task.sentences)
            sides = [vectors[torch.from_numpy(side)] for side in places]
        else:
            first, second = (store.pieces(side) for side in of_task.sentences)
            sides = [encode(model.vectors, device_of(model), store.frame, first, second, progress)]
        found[name] = answered(model, name, tasks[name], sides)
    model.train(training)
    return found


@torch.inference_mode()
def answered(model: SentenceModel, name: str, task: Task, sides: Sides) -> Answers:
    """Return what a task's head says of vectors."""
    told = model.head(name).answer([side.to(device_of(model)) for side in sides]).cpu().double().numpy()
    if task.classes is None:
        return Answers(told[:, 0])
    return Answers(told.argmax(axis=1).astype(np.float64), told.max(axis=1))


@torch.inference_mode()
def encode(
    model: Encode,
    device: torch.device,
    frame: Frame,
    first: Pieces,
    second: Pieces | None = None,
    progress: Progress = silent,
) -> Float[Tensor, "texts size"]:
    """Return the vectors of sentences, or of pairs that are encoded jointly, on the processor.

    Texts of about the same length go through the encoder together, shortest first.
    """
    lengths = np.array([len(text) for text in first], dtype=np.int64)
    if second is not None:
        lengths = lengths + np.array([len(text) for text in second], dtype=np.int64)
    order = np.argsort(lengths, kind="stable")
    vectors: list[Tensor] = []
    for start in range(0, len(order), TEXTS):
        chosen = order[start : start + TEXTS].tolist()
        packed = pack(
            frame,
            [first[place] for place in chosen],
            None if second is None else [second[place] for place in chosen],
        )
        vectors.append(model(packed.texts.to(device)).cpu()[packed.places])
        progress("encoding sentences", start + len(chosen), len(order))
    if not vectors:
        return torch.empty((0, 0))
    back = torch.empty(len(order), dtype=torch.long)
    back[torch.from_numpy(order)] = torch.arange(len(order))
    return torch.cat(vectors)[back]


def device_of(module: nn.Module) -> torch.device:
    """Return where a module's parameters are."""
    return next(module.parameters()).device
