"""Metrics of answers to single examples, each as one value for every example whose mean is the metric.

An accuracy is a mean over examples by itself. A correlation or an F1 is not; but a smooth function of means
differs from its value only by the mean of its influence function (Hampel 1974), up to terms that vanish
faster than the standard error. So the value plus each example's influence stands for the example: their mean
is the metric exactly, and the mean of examples that are drawn anew is the metric of those, to first order.
Intervals and paired comparisons of means then serve all metrics alike.
"""

import numpy as np
from jaxtyping import Bool, Float, Int


def accuracy(
    predicted: Int[np.ndarray, " examples"], labels: Int[np.ndarray, " examples"]
) -> Float[np.ndarray, " examples"]:
    """Return 1 for each right answer and 0 for each wrong one.

    >>> import numpy as np
    >>> float(accuracy(np.array([0, 2, 1]), np.array([0, 2, 2])).mean().round(4))
    0.6667
    """
    right: Float[np.ndarray, " examples"] = (predicted == labels).astype(np.float64)
    return right


def f1(
    predicted: Bool[np.ndarray, " examples"], labels: Bool[np.ndarray, " examples"]
) -> Float[np.ndarray, " examples"]:
    """Return F1 = Σ 2 tpᵢ / Σ (2 tpᵢ + fpᵢ + fnᵢ) by example; 0 where nothing is positive.

        >>> import numpy as np
        >>> predicted, labels = np.array([True, True, False]), np.array([True, False, False])
        >>> float(f1(predicted, labels).mean().round(4))
        0.6667

    The influence of an example on a ratio F = ā / b̄ is (aᵢ - F bᵢ) / b̄.
    """
    hits = 2.0 * (predicted & labels)
    positives = predicted.astype(np.float64) + labels
    total = positives.mean()
    if not total:
        return np.zeros(len(labels))
    value = hits.mean() / total
    by_example: Float[np.ndarray, " examples"] = value + (hits - value * positives) / total
    return by_example


def pearson(
    predicted: Float[np.ndarray, " examples"], wanted: Float[np.ndarray, " examples"]
) -> Float[np.ndarray, " examples"]:
    """Return Pearson's r by example; 0 where either does not vary.

        >>> import numpy as np
        >>> float(pearson(np.array([1.0, 2.0, 3.0]), np.array([1.0, 3.0, 2.0])).mean().round(4))
        0.5

    The influence of an example with the standardised values z and w is z w - r (z² + w²) / 2 (Devlin,
    Gnanadesikan and Kettenring 1975).
    """
    first, second = _standardised(predicted), _standardised(wanted)
    if first is None or second is None:
        return np.zeros(len(wanted))
    value = (first * second).mean()
    influence: Float[np.ndarray, " examples"] = first * second - value * (first**2 + second**2) / 2
    by_example: Float[np.ndarray, " examples"] = value + influence
    return by_example


def spearman(
    predicted: Float[np.ndarray, " examples"], wanted: Float[np.ndarray, " examples"]
) -> Float[np.ndarray, " examples"]:
    """Return Spearman's ρ by example; 0 where either does not vary.

        >>> import numpy as np
        >>> float(spearman(np.array([1.0, 2.0, 9.0]), np.array([1.0, 3.0, 2.0])).mean().round(4))
        0.5

    ρ is Pearson's correlation of the ranks u and v, which lie between 0 and 1 and are means over examples
    themselves. So the influence has a term for what an example does to the ranks of all others: with
    k(x, y) = 1 where x < y and 1/2 where they are equal, and the covariance C and the variances D_u, D_v,

        δC = u v + E[k(x, ·) v] + E[k(y, ·) u] - 3 E[u v],     δD_u = u² + 2 E[k(x, ·) u] - 3 E[u²],
        δρ = δC / √(D_u D_v) - ρ (δD_u / D_u + δD_v / D_v) / 2

    (without ties the influence function of Croux and Dehon 2010).
    """
    u, v = _ranks(predicted), _ranks(wanted)
    of_u, of_v = (u**2).mean() - 0.25, (v**2).mean() - 0.25
    if of_u <= 0 or of_v <= 0:
        return np.zeros(len(wanted))
    both = (u * v).mean()
    scale = np.sqrt(of_u * of_v)
    value = (both - 0.25) / scale
    change = u * v + _above(predicted, v) + _above(wanted, u) - 3 * both
    own = (u**2 + 2 * _above(predicted, u) - 3 * (u**2).mean()) / of_u
    others = (v**2 + 2 * _above(wanted, v) - 3 * (v**2).mean()) / of_v
    influence: Float[np.ndarray, " examples"] = change / scale - value * (own + others) / 2
    by_example: Float[np.ndarray, " examples"] = value + influence
    return by_example


def confusion(
    predicted: Int[np.ndarray, " examples"], labels: Int[np.ndarray, " examples"], classes: int
) -> Int[np.ndarray, "classes classes"]:
    """Return how often each class (row) was given each answer (column)."""
    counts = np.bincount(labels * classes + predicted, minlength=classes**2)
    table: Int[np.ndarray, "classes classes"] = counts.reshape(classes, classes)
    return table


def _standardised(values: Float[np.ndarray, " examples"]) -> Float[np.ndarray, " examples"] | None:
    """Return values with mean 0 and variance 1; nothing where they do not vary."""
    around: Float[np.ndarray, " examples"] = values.astype(np.float64) - values.mean(dtype=np.float64)
    spread = np.sqrt((around**2).mean())
    # A constant may leave a rounding error of its mean behind.
    if not spread > 1e-12 * np.abs(values).max(initial=0):
        return None
    standardised: Float[np.ndarray, " examples"] = around / spread
    return standardised


def _ranks(values: Float[np.ndarray, " examples"]) -> Float[np.ndarray, " examples"]:
    """Return the share of examples below each one, equal ones counted by half; their mean is 1/2."""
    return 1 - _above(values, np.ones(len(values)))


def _above(
    values: Float[np.ndarray, " examples"], weights: Float[np.ndarray, " examples"]
) -> Float[np.ndarray, " examples"]:
    """Return Σⱼ k(xᵢ, xⱼ) wⱼ / n: the weights of larger values, and half of those of equal ones."""
    _, place = np.unique(values, return_inverse=True)
    sums = np.bincount(place, weights)
    larger = sums.sum() - np.cumsum(sums)
    above: Float[np.ndarray, " examples"] = (larger + sums / 2)[place] / len(values)
    return above
