"""Texts through a Hugging Face model without padding."""

import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from counterpoint.encoders.tokens import Texts

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_PACKED = "counterpoint_packed"
_LONGEST_TRIED = 160


def pack_attention(model: "PreTrainedModel", first: int) -> bool:
    """Give a model packed attention, if texts then get the states they get alone; return whether they do.

    It is tried on a few texts, one of them longer than the windows of models that attend locally.
    """
    from transformers import AttentionInterface

    wanted = "position_ids" in inspect.signature(model.forward).parameters
    if not (wanted and model._supports_attention_backend):
        return False
    texts = texts_to_try(model, first)
    training, own = model.training, model.config._attn_implementation
    model.train(False)
    with torch.no_grad():
        alone = states_by_length(model, texts)
        AttentionInterface.register(_PACKED, packed_attention)
        model.set_attn_implementation(_PACKED)
        packs = torch.allclose(alone, packed_states(model, texts, first), rtol=1e-3, atol=1e-4)
    if not packs:
        model.set_attn_implementation(own)
    model.train(training)
    return packs


def packed_states(model: "PreTrainedModel", texts: Texts, first: int) -> Float[Tensor, "tokens size"]:
    """Return the states of all tokens from one call."""
    output = model(
        input_ids=texts.tokens[None],
        position_ids=texts.positions()[None] + first,
        text_runs=tuple(texts.runs()),
        **_segments(model, texts, (1, -1)),
    )
    states: Tensor = output.last_hidden_state[0]
    return states


def states_by_length(model: "PreTrainedModel", texts: Texts) -> Float[Tensor, "tokens size"]:
    """Return the states of all tokens from one call for each length."""
    states = []
    for start, length, number in texts.runs():
        part = slice(start, start + number * length)
        kinds = None if texts.segments is None else texts.segments[part]
        run = Texts(texts.tokens[part], (length,) * number, kinds)
        shape = (number, length)
        output = model(input_ids=run.tokens.view(shape), **_segments(model, run, shape))
        states.append(output.last_hidden_state.flatten(0, 1))
    return torch.cat(states)


def _segments(model: "PreTrainedModel", texts: Texts, shape: tuple[int, int]) -> dict[str, Tensor]:
    """Return the argument that tells the two texts of a pair apart; not every model has one."""
    if texts.segments is None or "token_type_ids" not in inspect.signature(model.forward).parameters:
        return {}
    return {"token_type_ids": texts.segments.view(shape)}


def first_position(model: "PreTrainedModel") -> int:
    """Return the position of a text's first token: RoBERTa's begin behind its padding index."""
    tables = [
        module
        for name, module in model.named_modules()
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding)
    ]
    padding = tables[0].padding_idx if tables else None
    return 0 if padding is None else padding + 1


def texts_to_try(model: "PreTrainedModel", first: int) -> Texts:
    """Return texts of several lengths, on the model's device, to compare two ways of computing states."""
    longest = min(_LONGEST_TRIED, getattr(model.config, "max_position_embeddings", _LONGEST_TRIED) - first)
    lengths = (3, 5, 5, longest)
    return Texts(torch.arange(sum(lengths), device=model.device) % 7 + 3, lengths)


def packed_attention(
    module: nn.Module,
    query: Float[Tensor, "batch heads tokens size"],
    key: Float[Tensor, "batch heads tokens size"],
    value: Float[Tensor, "batch heads tokens size"],
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    text_runs: Sequence[tuple[int, int, int]] | None = None,
    **_: Any,
) -> tuple[Float[Tensor, "batch tokens heads size"], None]:
    """Attend inside each text: one product for each run of equally long texts.

    A model that does not hand ``text_runs`` on attends over everything, and is found out when it is tried.
    """
    heads, size = query.shape[1], query.shape[3]
    runs = text_runs or [(0, query.shape[2], 1)]
    # Split once: the backward pass of a slice would fill a gradient of all tokens for each run.
    tokens = [number * length for _, length, number in runs]
    parts = zip(*(torch.split(states[0], tokens, dim=1) for states in (query, key, value)), strict=True)
    attended = []
    for (_start, length, number), part in zip(runs, parts, strict=True):
        texts = [states.view(heads, number, length, size).transpose(0, 1) for states in part]
        attended.append(_attend(texts, scaling, dropout).transpose(1, 2).reshape(-1, heads, size))
    return torch.cat(attended)[None], None


def _attend(
    texts: Sequence[Float[Tensor, "texts heads length size"]], scaling: float | None, dropout: float
) -> Float[Tensor, "texts heads length size"]:
    """Scaled dot-product attention of queries, keys and values without a mask.

    On a processor the fused kernel's bfloat16 backward pass is several times slower than the plain products.
    """
    query, key, value = texts
    if query.device.type == "cpu" and query.dtype == torch.bfloat16:
        scale = query.shape[-1] ** -0.5 if scaling is None else scaling
        weights = torch.softmax(query @ key.transpose(-1, -2) * scale, dim=-1)
        return nn.functional.dropout(weights, dropout) @ value
    return nn.functional.scaled_dot_product_attention(query, key, value, dropout_p=dropout, scale=scaling)
