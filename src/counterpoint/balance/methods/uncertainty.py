"""Losses divided by variances learned."""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from counterpoint.balance import checks, options
from counterpoint.balance.engine import Balancer
from counterpoint.balance.learned import LARGEST_LOG, Learned, descend, values
from counterpoint.balance.step import Tasks


@dataclass(eq=False, repr=False)
class Uncertainty(Balancer):
    """Divides every loss by a variance that is learned with the network.

        min over θ and s:  Σ ½ e^{-s_k} L_k + ½ s_k,   so  w_k = ½ e^{-s_k}

    with s = log σ², 0 at first: Kendall et al. (CVPR 2018), eq. 7, which is for regression. Their form for
    classification, L/σ² + log σ, which MetaBalance's authors take for all tasks (He et al., WWW 2022,
    eq. 10), is the same with σ² doubled and starts from weights of 1 instead of ½. At the optimum
    e^{s_k} = L_k, and every task brings ½ ∇ log L_k.

    The user's optimizer knows nothing of s: it takes a step of Adam here, by the losses of the same batch,
    after the weights have been read off. A task's s moves only in steps that have the task. Heads keep their
    plain gradient; in the paper they are weighted too. One task alone is weighted likewise.

    Costs one backward pass. Not free of scale: losses c times as large get weights 1/c as large only once s
    has moved by log c, with Adam at most about `lr` per step. Merged for given losses, the result scales
    with the gradients. |s| is at most 80, lest the weight of a loss that is 0 grow out of range.

    Attributes:
        lr: the step size of s; the default is that of Chen et al. (ICML 2018) for this method.

    Raises:
        ValueError: a negative loss, for which the objective has no minimum.
    """

    name = "uncertainty"
    source = "Kendall et al., CVPR 2018, eq. 7"
    promises = ("scales", "symmetric")
    length = "K / 2"
    cost = "1"
    needs_losses = True
    stateful = ("log_variances",)

    lr: float = 0.025
    log_variances: Learned = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        options.positive("lr", self.lr)

    def rows(self, tasks: Tasks) -> Float[np.ndarray, "rows tasks"]:
        """Return one row with all tasks, each over its variance; learn the variances."""
        checks.losses_from_zero(self, tasks)
        losses = tasks.values
        precisions = np.exp(-values(self.log_variances, tasks.names))
        slopes = (1 - precisions * losses) / 2
        descend(self.log_variances, tasks.names, slopes, self.lr, bound=LARGEST_LOG)
        return np.array([precisions / 2])
