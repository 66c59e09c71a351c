"""Writing the word pieces of one text field of all articles."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from counterpoint.encoders.tokens import Encoded, Tokenizer, encode
from counterpoint.storage.arrays import RaggedArray

TEXTS = ("title", "subtitle", "abstract", "body")


class TextWriter:
    """Takes the texts of one field, article after article; an absent one is the empty text.

    Args:
        arrays: folder of the store's arrays.
        field: the field's name.
        tokenizer: the encoder's.
        max_tokens: where texts are cut, special tokens included.

    Attributes:
        truncated: how many were cut.
        present: whether any article had a text.
    """

    def __init__(self, arrays: Path, field: str, tokenizer: Tokenizer, max_tokens: int) -> None:
        self.truncated, self.present = 0, False
        self._tokenizer, self._max_tokens = tokenizer, max_tokens
        self._tokens = RaggedArray(arrays, f"{field}_tokens", f"{field}_offsets", np.int32)

    def add(self, texts: Sequence[str | None]) -> list[Encoded]:
        """Tokenise and write some articles' texts; return them tokenised."""
        given = [text or "" for text in texts]
        self.present = self.present or any(map(str.strip, given))
        encoded = encode(self._tokenizer, given, self._max_tokens)
        self.truncated += sum(one.truncated for one in encoded)
        self._tokens.append(
            np.concatenate([np.array(one.ids, dtype=np.int32) for one in encoded]),
            np.array([len(one.ids) for one in encoded]),
        )
        return encoded

    def close(self, *, keep: bool) -> None:
        """Finish the files, or remove them."""
        self._tokens.close()
        if not keep:
            self._tokens.remove()
