"""Logs of one JSON object a line that can be cut back to where a checkpoint was made."""

import json
import math
import os
from pathlib import Path
from typing import Any

from counterpoint.storage.files import disk_errors


class JsonLog:
    """An append-only log.

    Args:
        path: its file.
        size: keep this many bytes of an older log and drop the rest.
    """

    def __init__(self, path: Path, size: int = 0) -> None:
        self._path = path
        with disk_errors(path):
            path.touch()
            os.truncate(path, min(size, path.stat().st_size))
            # Line by line, so that a killed process leaves whole lines.
            self._file = path.open("a", encoding="utf-8", buffering=1)

    def write(self, entry: dict[str, Any]) -> None:
        """Add a line; a number that is not finite is written as null."""
        with disk_errors(self._path):
            self._file.write(json.dumps(_finite(entry)) + "\n")

    def size(self) -> int:
        """Return the number of bytes in the file."""
        return self._path.stat().st_size

    def close(self) -> None:
        """Finish the file."""
        with disk_errors(self._path):
            self._file.close()


def _finite(entry: Any) -> Any:
    if isinstance(entry, dict):
        return {key: _finite(value) for key, value in entry.items()}
    if isinstance(entry, float):
        return float(f"{entry:.7g}") if math.isfinite(entry) else None
    return entry
