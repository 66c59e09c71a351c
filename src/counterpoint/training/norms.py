"""The norms of the tasks' gradients in the layers of a model: what a balancer knows, under names."""

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from counterpoint.balance import Report


def norms_by_layer(report: Report, model: nn.Module, shared: Iterable[Tensor]) -> dict[str, dict[str, float]]:
    """Return what a diagnosed step adds to the log: the norm of every task's gradient in every layer.

    A layer is the module that owns a parameter: ‖g_k‖² there is the sum over its weight and its bias. Norms
    stand under ``"LAYER|TASK"``, in ``layer_norms`` as they were taken (paper 4, Fig. 1) and in
    ``merged_layer_norms`` as the merged gradient holds them (Fig. 2), where the method has weights. A step
    that was not diagnosed adds nothing.

    Args:
        report: of the step.
        model: whose parameters these are.
        shared: the parameters that the balancer was given.
    """
    found = {"layer_norms": report.parameter_norms, "merged_layer_norms": report.merged_norms}
    known = {field: norms for field, norms in found.items() if norms is not None}
    if not known:
        return {}
    layers = _layers(model, shared)
    return {field: _by_layer(norms, layers, report.rows) for field, norms in known.items()}


def _layers(model: nn.Module, shared: Iterable[Tensor]) -> list[str]:
    """Return the layer of every shared parameter that takes gradients, each once, in their order."""
    owners = {
        id(parameter): name.rpartition(".")[0] or name  # the model's own parameter is a layer by itself
        for name, parameter in model.named_parameters()
    }
    return [owners[place] for place in dict.fromkeys(id(each) for each in shared if each.requires_grad)]


def _by_layer(
    norms: Float[Tensor, "parameters rows"], layers: list[str], rows: tuple[str, ...]
) -> dict[str, float]:
    names = list(dict.fromkeys(layers))
    places = torch.tensor([names.index(layer) for layer in layers])
    squares = norms.new_zeros(len(names), len(rows)).index_add_(0, places, norms.square())
    values = squares.sqrt().tolist()
    return {
        f"{name}|{row}": value
        for name, of_layer in zip(names, values, strict=True)
        for row, value in zip(rows, of_layer, strict=True)
    }
