"""From word pieces to what the encoder takes: special tokens around them, shortest first, no padding."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from counterpoint.encoders.tokens import Frame, Texts

Pieces = Sequence[Int[np.ndarray, " pieces"]]


@dataclass(frozen=True)
class Packed:
    """Texts ready for the encoder.

    Attributes:
        texts: shortest first.
        places: where each text that was given stands among them.
    """

    texts: Texts
    places: Int[Tensor, " given"]


def pack(frame: Frame, first: Pieces, second: Pieces | None = None) -> Packed:
    """Return sentences, or pairs that are encoded jointly, as packed texts.

    Args:
        frame: the encoder's special tokens.
        first: the word pieces of each sentence, or of each pair's first one.
        second: of each pair's second one.
    """
    tokens, kinds = _singles(frame, first) if second is None else _pairs(frame, first, second)
    lengths = np.array([len(text) for text in tokens])
    order = np.argsort(lengths, kind="stable")
    places = np.empty(len(order), dtype=np.int64)
    places[order] = np.arange(len(order))
    texts = Texts(
        _joined(tokens, order),
        tuple(lengths[order].tolist()),
        None if kinds is None else _joined(kinds, order),
    )
    return Packed(texts, torch.from_numpy(places))


def _singles(frame: Frame, pieces: Pieces) -> tuple[Pieces, None]:
    before, after = np.array(frame.before, dtype=np.int64), np.array(frame.after, dtype=np.int64)
    return [np.concatenate((before, text, after)) for text in pieces], None


def _pairs(frame: Frame, first: Pieces, second: Pieces) -> tuple[Pieces, Pieces | None]:
    """Return the tokens and the segments of pairs; no segments where all are the first one."""
    around = [np.array(part, dtype=np.int64) for part in frame.pair]
    tokens = [
        np.concatenate((around[0], one, around[1], other, around[2]))
        for one, other in zip(first, second, strict=True)
    ]
    of_around = [np.array(part, dtype=np.int64) for part in frame.pair_kinds]
    of_first, of_second = frame.text_kinds
    if not (of_first or of_second or any(part.any() for part in of_around)):
        return tokens, None
    kinds = [
        np.concatenate(
            (
                of_around[0],
                np.full(len(one), of_first),
                of_around[1],
                np.full(len(other), of_second),
                of_around[2],
            )
        )
        for one, other in zip(first, second, strict=True)
    ]
    return tokens, kinds


def _joined(parts: Pieces, order: Int[np.ndarray, " texts"]) -> Int[Tensor, " tokens"]:
    return torch.from_numpy(np.concatenate([parts[place] for place in order.tolist()]).astype(np.int64))
