"""Scoring the rows of a split."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from jaxtyping import Float

from counterpoint.errors import CounterpointError
from counterpoint.feedback.batches import FeedbackBatch, gathered
from counterpoint.feedback.data.store import Rows
from counterpoint.feedback.models.building import Model
from counterpoint.progress import Progress, silent

ROWS = 8_192
"""Rows that are scored at once."""


def score(model: Model, rows: Rows, progress: Progress = silent) -> Float[np.ndarray, "rows labels"]:
    """Return the logits of all rows, in float32 and without dropout.

    The model's mode does not matter and stays as it is.

    Raises:
        CounterpointError: a logit is not finite.
    """
    logits = np.empty((len(rows), len(model.schema.labels)), dtype=np.float32)
    with evaluating(model) as device:
        for start in range(0, len(rows), ROWS):
            chosen = np.arange(start, min(start + ROWS, len(rows)))
            logits[chosen] = logits_of(model, gathered(rows, chosen, []), device)
            progress("scoring rows", start + len(chosen), len(rows))
    return logits


def logits_of(model: Model, batch: FeedbackBatch, device: torch.device) -> Float[np.ndarray, "rows labels"]:
    """Return the logits of a batch.

    Raises:
        CounterpointError: one is not finite.
    """
    logits: Float[np.ndarray, "rows labels"] = model.logits(batch.to(device)).float().cpu().numpy()
    if not np.isfinite(logits).all():
        raise CounterpointError(
            "the model's scores are not finite: its training diverged; lower training.learning_rate and "
            "train again."
        )
    return logits


@contextmanager
def evaluating(model: Model) -> Iterator[torch.device]:
    """Switch a model's dropout off, and gradients, and yield where the model is."""
    trains = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield next(model.parameters()).device
    finally:
        model.train(trains)
