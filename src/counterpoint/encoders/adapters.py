"""Low-rank adapters on a pretrained model whose own weights stay as they are (Hu et al. 2022)."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from counterpoint.encoders.blocks import blocks_of
from counterpoint.errors import UsageError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_QUERY_AND_VALUE = (
    "query",
    "value",
    "q_lin",
    "v_lin",
    "q_proj",
    "v_proj",
    "query_proj",
    "value_proj",
    "q",
    "v",
)


@dataclass(frozen=True)
class Lora:
    """Low-rank adaptation: W + α/r · B A, where A is drawn and B begins as zero (Hu et al. 2022, eq. 3).

    The defaults are paper 2's r = 16 and α = 4; its students' code ran α = 16 with the rank-stabilised scale.

    Attributes:
        rank: r.
        alpha: α.
        rank_stabilised: scale by α/√r instead (rsLoRA, Kalajdzievski 2023, eq. 8).
        targets: the query and value projections, or every linear layer of the blocks.
        dropout: of what A is given.
    """

    rank: int = 16
    alpha: float = 4.0
    rank_stabilised: bool = False
    targets: Literal["attention", "linear"] = "attention"
    dropout: float = 0.0


@dataclass(frozen=True)
class Base:
    """The model that adapters were trained on, which is not saved with them.

    Attributes:
        name: what it was loaded from; a folder with its whole path.
        revision: the hub's revision.
        fingerprint: of its parameters.
    """

    name: str
    revision: str | None
    fingerprint: str


def add_adapters(model: "PreTrainedModel", lora: Lora, frozen: int = 0) -> None:
    """Freeze a model and put adapters into its blocks above the lowest ``frozen`` ones, in place.

    Raises:
        UsageError: nothing to adapt was found.
    """
    from peft import LoraConfig, inject_adapter_in_model  # slow, and needed for this alone

    stack, blocks = blocks_of(model)
    upper = {f"{stack}.{number}": block for number, block in enumerate(blocks) if number >= frozen}
    if not upper:
        raise UsageError(
            f"encoder.frozen_layers = {frozen} leaves no layer for encoder.lora to adapt; "
            f"set it to {len(blocks) - 1} at most."
        )
    linear = [
        f"{place}.{name}"
        for place, block in upper.items()
        for name, module in block.named_modules()
        if isinstance(module, nn.Linear)
    ]
    attention = [name for name in linear if name.rpartition(".")[2] in _QUERY_AND_VALUE]
    targets = {"attention": attention, "linear": linear}[lora.targets]
    if not targets:
        raise UsageError(
            f"encoder.lora finds no query and value projections in the layers of {type(model).__name__} "
            f"(known names: {', '.join(_QUERY_AND_VALUE)}); set encoder.lora.targets to 'linear'."
        )
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,  # type: ignore[arg-type]  # need not be a whole number
        use_rslora=lora.rank_stabilised,
        lora_dropout=lora.dropout,
        target_modules=targets,
    )
    model.requires_grad_(False)
    inject_adapter_in_model(config, model)


def fingerprint(parameters: Mapping[str, Tensor]) -> str:
    """Return 16 hexadecimal digits that change with any name, shape, type or value."""
    digest = hashlib.sha256()
    for name in sorted(parameters):
        value = parameters[name].detach().cpu().contiguous()
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}\n".encode())
        digest.update(value.view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]
