"""Texts as word pieces: tokenised once, then handled without padding."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from counterpoint.errors import UsageError


@dataclass(frozen=True)
class Encoded:
    """One tokenised text: ids, the characters each token covers, which are special, and if it was cut."""

    ids: list[int]
    offsets: list[tuple[int, int]]
    special: list[int]
    truncated: bool


class Tokenizer:
    """A fast Hugging Face tokenizer, with a fingerprint that tells two of them apart."""

    def __init__(self, tokenizer: Any, name: str) -> None:
        if not getattr(tokenizer, "is_fast", False):
            raise UsageError(
                f"encoder {name}: it has no fast tokenizer, which tells where each token stands."
            )
        self.name = name
        self.pretrained = tokenizer
        from tokenizers import Tokenizer as Backend

        # A copy: calling the Hugging Face tokenizer sets padding and truncation on its own backend for good.
        self._backend = Backend.from_str(tokenizer.backend_tokenizer.to_str())
        self._backend.no_padding()
        self._backend.no_truncation()
        self.fingerprint = hashlib.sha256(self._backend.to_str().encode()).hexdigest()[:16]

    def encode(self, texts: Sequence[str], max_tokens: int) -> list[Encoded]:
        """Return the texts as at most ``max_tokens`` word pieces each, special tokens included."""
        self._backend.enable_truncation(max_tokens)
        try:
            return [
                Encoded(one.ids, one.offsets, one.special_tokens_mask, bool(one.overflowing))
                for one in self._backend.encode_batch(list(texts))
            ]
        finally:
            self._backend.no_truncation()


@dataclass(frozen=True)
class Texts:
    """Texts packed one after another, shortest first, so that no padding exists.

    Attributes:
        tokens: word-piece ids of all texts.
        lengths: tokens of each text, ascending.
    """

    tokens: Int[Tensor, " tokens"]
    lengths: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.lengths)

    def runs(self) -> Iterator[tuple[int, int, int]]:
        """Yield (first token, length, number) for each run of texts that are equally long."""
        start, first = 0, 0
        for place, length in enumerate(self.lengths):
            if place + 1 == len(self.lengths) or self.lengths[place + 1] != length:
                number = place + 1 - first
                yield start, length, number
                start += number * length
                first = place + 1

    def positions(self) -> Int[Tensor, " tokens"]:
        """Return each token's place in its text, from 0."""
        return torch.cat([torch.arange(length).repeat(number) for _, length, number in self.runs()]).to(
            self.tokens.device
        )

    def to(self, device: torch.device) -> "Texts":
        """Return the texts on ``device``."""
        return Texts(self.tokens.to(device), self.lengths)
