"""The frozen layers' output for all articles of a store, kept on disk."""

import hashlib
import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Self

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from counterpoint.encoders.adapters import fingerprint
from counterpoint.encoders.blocks import lower_parameters
from counterpoint.encoders.pretrained import PretrainedEncoder
from counterpoint.encoders.tokens import Texts
from counterpoint.errors import CounterpointError
from counterpoint.progress import Progress, silent
from counterpoint.storage.files import new_folder, read_json, write_json

_STATES, _OFFSETS, _FACTS = "states.npy", "offsets.npy", "cache.json"


def cache_key(encoder: PretrainedEncoder, tokens: str) -> str:
    """Return what the states depend on: the frozen weights, how they are multiplied, and the tokens.

    Training leaves it as it is: the upper layers do not count.

    Args:
        encoder: the encoder, on the device that it will run on.
        tokens: fingerprint of the articles' tokens.
    """
    frozen = encoder.frozen_layers
    precision = "bf16" if encoder.halves(encoder.model.device) else "fp32"
    parts = [fingerprint(lower_parameters(encoder.model, frozen)), frozen, precision, tokens]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


class StateCache:
    """What the frozen layers made of every article of a store, mapped from disk.

    The states are kept as float16, half as large as float32 and, behind a layer norm, far from its bounds. On
    titles of MIND the fourth layer of MiniLM (largest state 10.5) loses 2.1e-4 of its norm so, as bfloat16
    1.7e-3; multiplying in bfloat16, as training does where that is fast, costs 4.7e-3 by itself.

    Args:
        states: of all tokens, article after article.
        offsets: where each article's tokens begin; one more at the end.
    """

    def __init__(
        self, states: Float[np.ndarray, "tokens hidden"], offsets: Int[np.ndarray, " articles+1"]
    ) -> None:
        self._states, self._offsets = states, offsets

    @classmethod
    def open(cls, folder: Path, key: str) -> Self | None:
        """Return the cache in ``folder``; nothing if there is none, a broken one, or one of another key."""
        try:
            if read_json(folder / _FACTS)["key"] != key:
                return None
            states = np.load(folder / _STATES, mmap_mode="r", allow_pickle=False)
            offsets = np.load(folder / _OFFSETS, allow_pickle=False)
        except (CounterpointError, KeyError, TypeError, OSError, ValueError, EOFError):
            return None
        fits = states.dtype == np.float16 and states.ndim == 2 and len(states) == offsets[-1]
        return cls(np.asarray(states), offsets) if fits else None

    @classmethod
    def build(
        cls,
        folder: Path,
        key: str,
        encoder: PretrainedEncoder,
        blocks: Iterable[tuple[Int[np.ndarray, " texts"], Texts]],
        offsets: Int[np.ndarray, " articles+1"],
        progress: Progress = silent,
    ) -> Self:
        """Write the cache and return it; it stands in ``folder`` when it is complete, or not at all.

        Args:
            folder: where it is to stand; an older one there is replaced.
            key: `cache_key`.
            encoder: its frozen layers are run, on its device.
            blocks: the articles' rows and their texts, some at a time; every article once.
            offsets: where each article's tokens begin in the store; one more at the end.
            progress: told the tokens.

        Raises:
            CounterpointError: there is no room for it, or a state is beyond what float16 holds.
        """
        tokens, hidden = int(offsets[-1]), int(encoder.model.config.hidden_size)
        _require_room(folder, 2 * tokens * hidden, len(offsets) - 1)
        lengths = np.diff(offsets)
        missing, done = lengths > 0, 0
        with new_folder(folder) as place:
            # Written, not mapped: writing to a map ends the process where the disk is full.
            with (place / _STATES).open("wb") as file:
                header = {"descr": "<f2", "fortran_order": False, "shape": (tokens, hidden)}
                np.lib.format.write_array_header_1_0(file, header)
                start = file.tell()
                for rows, texts in blocks:
                    if not np.array_equal(lengths[rows], texts.lengths):
                        raise ValueError(
                            f"articles from {rows[0]} on have other lengths than the offsets say"
                        )
                    states = _states(encoder, texts, folder)
                    parts = np.split(states, np.cumsum(texts.lengths)[:-1])
                    for row, part in zip(rows, parts, strict=True):
                        file.seek(start + 2 * hidden * int(offsets[row]))
                        file.write(part.data)
                    missing[rows] = False
                    done += len(states)
                    progress("frozen layers", done, tokens)
            if missing.any():
                raise ValueError(f"{missing.sum()} articles were not given, among them {missing.argmax()}")
            np.save(place / _OFFSETS, np.asarray(offsets, dtype=np.int64))
            write_json(place / _FACTS, {"key": key})
        cache = cls.open(folder, key)
        if cache is None:
            raise CounterpointError(f"{folder}: the states cannot be read back; check the disk.")
        return cache

    def states(self, articles: Int[np.ndarray, " articles"]) -> Float[Tensor, "tokens hidden"]:
        """Return the float16 states of ``articles``, one after another in the order given."""
        starts, ends = self._offsets[articles].tolist(), self._offsets[articles + 1].tolist()
        parts = [self._states[start:end] for start, end in zip(starts, ends, strict=True)]
        return torch.from_numpy(np.concatenate([self._states[:0], *parts]))


def _states(encoder: PretrainedEncoder, texts: Texts, folder: Path) -> Float[np.ndarray, "tokens hidden"]:
    """Return the lower states of a block of texts in float16."""
    states = encoder.lower(texts.to(encoder.model.device)).half()
    if not states.isfinite().all():
        raise CounterpointError(
            f"{folder}: the frozen layers give states beyond 65504, which float16 cannot hold; "
            "set encoder.frozen_layers to 0."
        )
    return states.cpu().numpy().astype("<f2", copy=False)


def _require_room(folder: Path, needed: int, articles: int) -> None:
    """Refuse to begin where the disk cannot hold ``needed`` bytes."""
    there = next(place for place in (folder, *folder.absolute().parents) if place.is_dir())
    free = shutil.disk_usage(there).free
    if free < needed:
        raise CounterpointError(
            f"{folder}: the frozen layers' states of {articles:,} articles take {_size(needed)} and "
            f"{_size(free)} are free; free some space or set encoder.frozen_layers to 0."
        )


def _size(size: int) -> str:
    """Return a number of bytes as one reads it."""
    power, unit = next((each for each in ((1e9, "GB"), (1e6, "MB")) if size >= each[0]), (1e3, "kB"))
    return f"{size / power:.1f} {unit}"
