"""What tasks pass on to those that follow them, as a purchase follows a click and that a view."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from counterpoint.feedback.models.experts import Fill, linear

States = Float[Tensor, "rows width"]
Logits = Float[Tensor, " rows"]


class Apart(nn.Module):
    """Tasks that pass nothing on."""

    def states(self, states: Sequence[States]) -> list[States]:
        """Return what each task's logit is computed from, given what its tower found."""
        return list(states)

    def logits(self, logits: Sequence[Logits]) -> list[Logits]:
        """Return the logits of the labels, given those that the towers end with."""
        return list(logits)

    def penalties(self, logits: Sequence[Logits]) -> dict[int, Float[Tensor, ""]]:
        """Return what is added to losses, by the number of the task."""
        return {}


class Products(Apart):
    """Probabilities as products down the chain: the entire space model (ESMM, Ma et al., SIGIR 2018).

        P(y_k = 1) = Π_{j ≤ k} σ(z_j)

    (eq. 1), so that towers behind the first predict what follows given all that came before, and are trained
    on all rows by the products' losses (eq. 3). In logarithms, with p_k and q_k the probabilities of the
    label and of its absence::

        log p_k = log p_{k-1} + log σ(z_k)        log q_k = log(q_{k-1} + p_{k-1} σ(-z_k))

    whose difference is the label's logit: no product underflows, no 1 - p cancels.

    Args:
        order: the numbers of the tasks that follow each other.
    """

    def __init__(self, order: Sequence[int]) -> None:
        super().__init__()
        self.order = tuple(order)

    def logits(self, logits: Sequence[Logits]) -> list[Logits]:
        """Return the logits of the products."""
        joined = list(logits)
        first, *others = self.order
        present, absent = logsigmoid(logits[first]), logsigmoid(-logits[first])
        for task in others:
            absent = torch.logaddexp(absent, present + logsigmoid(-logits[task]))
            present = present + logsigmoid(logits[task])
            joined[task] = present - absent
        return joined


class AttentionTransfer(Apart):
    """Adaptive information transfer (AITM, Xi et al., KDD 2021): towers pass on what they found.

    With q_k what the tower of task k found, z_1 = q_1, and the rows u of {p_{k-1}, q_k}::

        p_{k-1} = ReLU(G z_{k-1})      z_k = Σ_u w_u V u      w = softmax_u(⟨Q u, K u⟩ / √width)

    (eqs. 3 to 6). The calibrator holds a task's probability below that of the one before it: the mean of
    max(ŷ_k - ŷ_{k-1}, 0) over the rows, times its weight, is added to the loss of task k (eqs. 9 and 10).

    Args:
        order: the numbers of the tasks that follow each other.
        width: numbers in what a tower found.
        calibrator: its weight.
        fill: first weights of layers.
    """

    def __init__(self, order: Sequence[int], width: int, calibrator: float, fill: Fill) -> None:
        super().__init__()
        self.order, self.calibrator = tuple(order), calibrator
        self.transfers = nn.ModuleList(_Transfer(width, fill) for _ in self.order[1:])

    def states(self, states: Sequence[States]) -> list[States]:
        """Return each task's z; tasks outside of the chain keep what their towers found."""
        passed = list(states)
        for (before, task), transfer in zip(pairwise(self.order), self.transfers, strict=True):
            passed[task] = transfer(passed[before], states[task])
        return passed

    def penalties(self, logits: Sequence[Logits]) -> dict[int, Float[Tensor, ""]]:
        """Return the calibrator's losses."""
        return {
            task: self.calibrator * (logits[task].sigmoid() - logits[before].sigmoid()).relu().mean()
            for before, task in pairwise(self.order)
        }


class _Transfer(nn.Module):
    """Attention over what the task before passes on and what the task's own tower found."""

    def __init__(self, width: int, fill: Fill) -> None:
        super().__init__()
        self.passed = linear(width, width, fill)
        self.queries, self.keys, self.values = (linear(width, width, fill) for _ in range(3))

    def forward(self, before: States, found: States) -> States:
        pair = torch.stack((self.passed(before).relu(), found), dim=1)
        products = (self.queries(pair) * self.keys(pair)).sum(dim=2) / pair.shape[2] ** 0.5
        shares: Tensor = products.softmax(dim=1)[:, :, None]
        mixed: States = (shares * self.values(pair)).sum(dim=1)
        return mixed
