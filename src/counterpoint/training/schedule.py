"""The learning rate over training."""

from collections.abc import Callable, Mapping


def linear_decay(step: int, total: int, warmup: float) -> float:
    """Return the factor of the learning rate at ``step`` (from 0): a linear rise, then a linear fall to 0.

    Args:
        step: the step that is about to be taken.
        total: steps of the whole training.
        warmup: share of the steps in which the rate rises (paper 1, appendix A: 0.1).
    """
    rising = round(total * warmup)
    if step < rising:
        return (step + 1) / rising
    return max(0.0, (total - step) / max(1, total - rising))


def no_decay(step: int, total: int, warmup: float) -> float:
    """Return the factor of the learning rate at ``step``: a linear rise, then 1; arguments as above."""
    return min(1.0, (step + 1) / max(1, round(total * warmup)))


DECAYS: Mapping[str, Callable[[int, int, float], float]] = {"linear": linear_decay, "none": no_decay}
"""The factor of the learning rate by the recipe's `training.decay`."""
