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

    def encode(self, texts: Sequence[str], max_tokens: int, *, special: bool = True) -> list[Encoded]:
        """Return the texts as at most ``max_tokens`` word pieces each, special tokens included.

        Args:
            texts: the texts.
            max_tokens: where they are cut.
            special: put the special tokens around each text; without them, none counts.
        """
        self._backend.enable_truncation(max_tokens)
        try:
            return [
                Encoded(one.ids, one.offsets, one.special_tokens_mask, bool(one.overflowing))
                for one in self._backend.encode_batch(list(texts), add_special_tokens=special)
            ]
        finally:
            self._backend.no_truncation()

    def frame(self) -> "Frame":
        """Return the special tokens around one text and around a pair of texts."""
        one, two = self._backend.encode("a"), self._backend.encode("a", "a")
        only, first, second = _span(one, 0), _span(two, 0), _span(two, 1)
        around = slice(0, first.start), slice(first.stop, second.start), slice(second.stop, None)
        return Frame(
            one.ids[: only.start],
            one.ids[only.stop :],
            [two.ids[part] for part in around],
            [two.type_ids[part] for part in around],
            [two.type_ids[first.start], two.type_ids[second.start]],
        )


@dataclass(frozen=True)
class Frame:
    """The special tokens of an encoder, by which word pieces become a text or a pair of texts.

    Attributes:
        before: in front of a text.
        after: behind it.
        pair: in front of a pair, between its texts and behind it.
        pair_kinds: the segment of each of these tokens.
        text_kinds: the segments of the pair's two texts.
    """

    before: list[int]
    after: list[int]
    pair: list[list[int]]
    pair_kinds: list[list[int]]
    text_kinds: list[int]


def _span(encoded: Any, text: int) -> slice:
    """Return where the tokens of one text of an encoding stand."""
    places = [place for place, own in enumerate(encoded.sequence_ids) if own == text]
    return slice(places[0], places[-1] + 1)


_CHARACTERS = 20
"""Characters a token is given before a text is cut unread; few languages need half as many."""


def encode(
    tokenizer: Tokenizer, texts: Sequence[str], max_tokens: int, *, special: bool = True
) -> list[Encoded]:
    """Return texts as `Tokenizer.encode` does, at a cost that does not grow with what is cut off.

    A text far too long is cut at a space first; should it then fit, it is tokenised whole after all. So the
    tokens are the same: no tokenizer here joins what spaces part.
    """
    most = _CHARACTERS * max_tokens
    encoded = tokenizer.encode([_beginning(text, most) for text in texts], max_tokens, special=special)
    for place, text in enumerate(texts):
        if len(text) > most and not encoded[place].truncated:
            encoded[place] = tokenizer.encode([text], max_tokens, special=special)[0]
    return encoded


def _beginning(text: str, most: int) -> str:
    """Return the whole words among the first ``most`` characters; a text without spaces is left as it is."""
    if len(text) <= most:
        return text
    space = text.rfind(" ", 0, most)
    return text[:space] if space > 0 else text


@dataclass(frozen=True)
class Texts:
    """Texts packed one after another, shortest first, so that no padding exists.

    Attributes:
        tokens: word-piece ids of all texts.
        lengths: tokens of each text, ascending.
        segments: where texts are pairs, which of the two each token belongs to, as the encoder numbers them.
    """

    tokens: Int[Tensor, " tokens"]
    lengths: tuple[int, ...]
    segments: Int[Tensor, " tokens"] | None = None

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
        segments = None if self.segments is None else self.segments.to(device)
        return Texts(self.tokens.to(device), self.lengths, segments)
