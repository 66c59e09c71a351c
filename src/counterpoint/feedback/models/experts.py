"""Experts side by side: one product of matrices per layer, however many there are."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Union

import torch
from jaxtyping import Float
from torch import Tensor, nn

from counterpoint.training.dropout import Dropout

Fill = Callable[[Tensor], object]
"""Gives a matrix of weights its first values."""

Experts = Union["MLPExperts", "DeepFMExperts"]
"""Some experts of one owner."""


class MLPExperts(nn.Module):
    """Experts that are MLPs: linear layers, each with a ReLU and dropout.

    Args:
        experts: how many.
        inputs: numbers that each takes.
        widths: of the layers.
        dropout: after each.
        fill: first weights of a layer.

    Attributes:
        outputs: numbers that each gives.
    """

    def __init__(self, experts: int, inputs: int, widths: Sequence[int], dropout: float, fill: Fill) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            _Linears(experts, below, above, fill) for below, above in pairwise((inputs, *widths))
        )
        self.dropout = Dropout(dropout)
        self.experts, self.outputs = experts, widths[-1]

    def forward(self, inputs: Float[Tensor, "rows inputs"]) -> Float[Tensor, "experts rows outputs"]:
        """Return what each expert makes of the same inputs."""
        states = inputs.expand(self.experts, -1, -1)
        for layer in self.layers:
            states = self.dropout(layer(states).relu_())
        return states


class _Linears(nn.Module):
    """A linear layer of every expert: x_e W_e + b_e."""

    def __init__(self, experts: int, inputs: int, outputs: int, fill: Fill) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(experts, inputs, outputs))
        self.bias = nn.Parameter(torch.zeros(experts, 1, outputs))
        for matrix in self.weight.detach():
            fill(matrix)

    def forward(self, states: Float[Tensor, "experts rows inputs"]) -> Float[Tensor, "experts rows outputs"]:
        return torch.baddbmm(self.bias, states, self.weight)


class DeepFMExperts(nn.Module):
    """Experts that are DeepFMs (Guo et al., IJCAI 2017): an MLP, a linear part, a factorization machine.

        expert_e = [MLP_e(v) ; Σ_f a_ef w_f ; Σ_{f < g} b_ef b_eg ⟨v_f, v_g⟩]

    of the vectors v_f and the first-order weights w_f of the fields, which all experts look up in one table;
    the weights a and b of the fields are each expert's own. They begin as 1, with which the last two are
    DeepFM's own linear part and factorization machine. DeepFM adds its three parts up to one logit; experts
    leave that to gates and towers.

    Args:
        experts: how many.
        fields: how many fields there are.
        width: numbers in a field's vector.
        widths: of the MLP's layers.
        dropout: after each of these.
        fill: first weights of such a layer.

    Attributes:
        outputs: numbers that each gives.
    """

    def __init__(
        self, experts: int, fields: int, width: int, widths: Sequence[int], dropout: float, fill: Fill
    ) -> None:
        super().__init__()
        self.sizes = fields, width
        self.deep = MLPExperts(experts, fields * width, widths, dropout, fill)
        self.first_order = nn.Parameter(torch.ones(experts, fields))
        self.second_order = nn.Parameter(torch.ones(experts, fields))
        self.outputs = self.deep.outputs + 2

    def forward(self, inputs: Float[Tensor, "rows inputs"]) -> Float[Tensor, "experts rows outputs"]:
        """Return what each expert makes of the fields' vectors, one after another, and their weights."""
        fields, width = self.sizes
        vectors, weights = torch.split(inputs, [fields * width, fields], dim=1)
        linear = self.first_order @ weights.T
        machine = factorization_machine(vectors.view(-1, fields, width), self.second_order)
        return torch.cat((self.deep(vectors), linear[:, :, None], machine[:, :, None]), dim=2)


def factorization_machine(
    vectors: Float[Tensor, "rows fields width"], weights: Float[Tensor, "experts fields"]
) -> Float[Tensor, "experts rows"]:
    """Return the sum over pairs of fields of their weighted vectors' inner products.

        Σ_{f < g} b_f b_g ⟨v_f, v_g⟩ = ½ (‖Σ_f b_f v_f‖² - Σ_f b_f² ‖v_f‖²)

    (Rendle, ICDM 2010, lemma 3.1), in time that grows with the fields instead of their pairs.
    """
    sums = torch.einsum("ef,rfw->erw", weights, vectors).square().sum(2)
    squares = weights.square() @ vectors.square().sum(2).T
    return (sums - squares) / 2


def linear(inputs: int, outputs: int, fill: Fill) -> nn.Linear:
    """Return a linear layer that begins without a bias."""
    layer = nn.Linear(inputs, outputs)
    fill(layer.weight.detach())
    nn.init.zeros_(layer.bias)
    return layer
