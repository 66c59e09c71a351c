"""Any Hugging Face encoder as a text encoder, without padding and in the precision that is fast."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import torch
from jaxtyping import Float
from torch import Tensor, nn

from counterpoint.encoders.adapters import Base, Lora, add_adapters
from counterpoint.encoders.blocks import (
    freeze_lower,
    lower_states,
    require_layers,
    require_parts,
    rest_lower,
    upper_states,
)
from counterpoint.encoders.packing import first_position, pack_attention, packed_states, states_by_length
from counterpoint.encoders.tokens import Texts
from counterpoint.precision import bf16_is_fast

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Precision = Literal["auto", "bf16", "fp32"]


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
