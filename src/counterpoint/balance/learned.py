"""Numbers that a method learns beside the network: one per task, by Adam, in float64."""

from collections.abc import Sequence
from math import hypot, inf, sqrt

import numpy as np
from jaxtyping import Float

Learned = dict[str, dict[str, float]]
"""By task: the number itself ("value") and what Adam remembers of its slopes."""

LARGEST_LOG = 80.0
"""What the logarithm of a weight should not exceed, up or down: single precision ends at e^88."""

_FIRST, _SECOND = 0.9, 0.999  # Adam's β₁ and β₂


def values(learned: Learned, tasks: Sequence[str], start: float = 0.0) -> Float[np.ndarray, " tasks"]:
    """Return the number of every task; of one that has none yet, where it starts."""
    return np.array([learned[task]["value"] if task in learned else start for task in tasks])


def keep(learned: Learned, tasks: Sequence[str], numbers: Float[np.ndarray, " tasks"]) -> None:
    """Put the tasks' numbers in place of what they were; Adam's memory stays."""
    for task, number in zip(tasks, numbers.tolist(), strict=True):
        entry = learned.setdefault(task, {"value": number, "steps": 0, "mean": 0.0, "root": 0.0})
        entry["value"] = number


def descend(
    learned: Learned,
    tasks: Sequence[str],
    slopes: Float[np.ndarray, " tasks"],
    lr: float,
    *,
    eps: float = 1e-8,
    bound: float = inf,
) -> None:
    """Take a step of Adam (Kingma & Ba, ICLR 2015) against the slopes; numbers new to it start at 0.

    A task that is not among `tasks` keeps its number and its count of steps. Instead of the mean square of
    the slopes its root is kept, which neither overflows nor vanishes for slopes of any size.

    Args:
        learned: the numbers, changed in place.
        tasks: those that take a step.
        slopes: the derivatives by their numbers.
        lr: the step size.
        eps: Adam's ε, for slopes without a unit; 0 for slopes that scale with the gradients.
        bound: what no number exceeds, up or down.
    """
    keep(learned, tasks, values(learned, tasks))
    for task, slope in zip(tasks, slopes.tolist(), strict=True):
        entry = learned[task]
        entry["steps"] += 1
        entry["mean"] = _FIRST * entry["mean"] + (1 - _FIRST) * slope
        entry["root"] = hypot(sqrt(_SECOND) * entry["root"], sqrt(1 - _SECOND) * slope)
        mean = entry["mean"] / (1 - _FIRST ** entry["steps"])
        root = entry["root"] / sqrt(1 - _SECOND ** entry["steps"])
        if root > 0:
            entry["value"] = max(-bound, min(bound, entry["value"] - lr * mean / (root + eps)))


def softmax(logits: Float[np.ndarray, " tasks"]) -> Float[np.ndarray, " tasks"]:
    """Return e^z / Σ e^z."""
    powers = np.exp(logits - logits.max())
    shares: Float[np.ndarray, " tasks"] = powers / powers.sum()
    return shares
