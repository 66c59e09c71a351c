"""Writing files so that a reader never sees half of one."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from counterpoint.errors import CounterpointError


@contextmanager
def disk_errors(target: Path) -> Iterator[None]:
    """Turn an operating-system error while writing ``target`` into one sentence."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise CounterpointError(
            f"{target}: writing failed ({reason}); free some space or choose another place, "
            "nothing half-written was left behind."
        ) from error


@contextmanager
def new_file(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``target`` that replaces it on success and vanishes on failure."""
    with disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.{os.getpid()}.part")
        try:
            yield temporary
            with temporary.open("rb") as written:
                os.fsync(written.fileno())
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Yield a temporary folder beside ``target`` that takes its name on success and vanishes on failure.

    An older folder of that name is replaced; should the process die in between, either the old or the
    new one is whole.
    """
    with disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent))
        temporary.chmod(0o755)
        try:
            yield temporary
            if target.exists():
                old = temporary.with_suffix(".old")
                target.rename(old)
                temporary.rename(target)
                shutil.rmtree(old)
            else:
                temporary.rename(target)
        finally:
            if temporary.exists():
                shutil.rmtree(temporary)


def write_json(target: Path, content: Any) -> None:
    """Write ``content`` as indented JSON, atomically."""
    with new_file(target) as path:
        path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read a JSON file; a missing or broken one is one sentence."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CounterpointError(f"{path}: no such file; check the path.") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CounterpointError(f"{path}: not valid JSON ({error}); write it again.") from error
