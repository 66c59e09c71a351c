"""The transformer blocks of a Hugging Face model: the lowest ones frozen, the others run on their states."""

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor, nn

from counterpoint.encoders.packing import packed_states, texts_to_try
from counterpoint.encoders.tokens import Texts
from counterpoint.errors import UsageError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def blocks_of(model: "PreTrainedModel") -> tuple[str, nn.ModuleList]:
    """Return the name and the list of a model's transformer blocks: as many modules as it has layers.

    Raises:
        UsageError: the model keeps its blocks in another way.
    """
    layers = model.config.num_hidden_layers
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == layers:
            return name, module
    raise UsageError(
        "encoder.lora and encoder.frozen_layers need a list of transformer blocks, and "
        f"{type(model).__name__} has none for its {layers} layers; leave both out or choose another "
        "encoder.name."
    )


def require_layers(model: "PreTrainedModel", frozen: int) -> None:
    """Refuse to freeze more blocks than there are.

    Raises:
        UsageError: there are fewer, or they are not in a list.
    """
    blocks = blocks_of(model)[1]
    if not 0 <= frozen <= len(blocks):
        raise UsageError(
            f"encoder.frozen_layers is {frozen}, but the encoder has {len(blocks)} layers; "
            f"set it to a number from 0 to {len(blocks)}."
        )


def require_parts(model: "PreTrainedModel", packs: bool, first: int, frozen: int) -> None:
    """Refuse a model whose layers, run one after another, do not give what the whole model gives.

    Raises:
        UsageError: it is not packed, or has more between its layers than this knows of.
    """
    if not (packs and hasattr(model, "embeddings") and _has_parts(model, first, frozen)):
        raise UsageError(
            "encoder.frozen_layers needs layers that can be run on their own, which those of "
            f"{type(model).__name__} cannot; set it to 0, or encoder.name to a BERT, RoBERTa, XLM-R, "
            "DistilBERT or ELECTRA."
        )


def freeze_lower(model: "PreTrainedModel", frozen: int) -> None:
    """Let nothing but the blocks above the lowest ``frozen`` ones be trained."""
    model.requires_grad_(False)
    blocks_of(model)[1][frozen:].requires_grad_(True)


def lower_parameters(model: "PreTrainedModel", frozen: int) -> dict[str, Tensor]:
    """Return all that the output of the lowest ``frozen`` blocks depends on, and whatever else is frozen."""
    stack, blocks = blocks_of(model)
    upper = tuple(f"{stack}.{number}." for number in range(frozen, len(blocks)))
    return {name: value for name, value in model.named_parameters() if not name.startswith(upper)}


def rest_lower(model: "PreTrainedModel", frozen: int) -> None:
    """Switch off the dropout of the embeddings and the lowest ``frozen`` blocks."""
    model.get_submodule("embeddings").eval()
    blocks_of(model)[1][:frozen].eval()


def lower_states(
    model: "PreTrainedModel", texts: Texts, first: int, frozen: int
) -> Float[Tensor, "tokens hidden"]:
    """Return what the lowest ``frozen`` blocks of a packed model make of texts."""
    embeddings = model.get_submodule("embeddings")
    states = embeddings(input_ids=texts.tokens[None], position_ids=texts.positions()[None] + first)
    if hasattr(model, "embeddings_project"):  # an ELECTRA whose embeddings are smaller than its states
        states = model.get_submodule("embeddings_project")(states)
    return _through(blocks_of(model)[1][:frozen], states, texts)


def upper_states(
    model: "PreTrainedModel", states: Float[Tensor, "tokens hidden"], texts: Texts, frozen: int
) -> Float[Tensor, "tokens hidden"]:
    """Return what the blocks above the lowest ``frozen`` ones make of their output."""
    return _through(blocks_of(model)[1][frozen:], states[None], texts)


def _has_parts(model: "PreTrainedModel", first: int, frozen: int) -> bool:
    """Return whether a packed model is its lower and its upper layers, and nothing else."""
    texts, training = texts_to_try(model, first), model.training
    model.train(False)
    with torch.no_grad():
        whole = packed_states(model, texts, first)
        parts = upper_states(model, lower_states(model, texts, first, frozen), texts, frozen)
    model.train(training)
    return torch.allclose(whole, parts, rtol=1e-3, atol=1e-4)


def _through(
    blocks: nn.ModuleList, states: Float[Tensor, "1 tokens hidden"], texts: Texts
) -> Float[Tensor, "tokens hidden"]:
    """Return the states behind ``blocks``; attention stays inside each text."""
    runs = tuple(texts.runs())
    for block in blocks:
        states = block(states, attention_mask=None, text_runs=runs)
    return states[0]
