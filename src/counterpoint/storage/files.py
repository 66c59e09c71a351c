"""Where files go, and writing them so that a reader never sees half of one."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from counterpoint.errors import CounterpointError, UsageError

if TYPE_CHECKING:
    import polars as pl


def cache_folder() -> Path:
    """Return where what can be made again stands: ``$COUNTERPOINT_CACHE``, else ``~/.cache/counterpoint``."""
    return Path(os.environ.get("COUNTERPOINT_CACHE") or Path.home() / ".cache" / "counterpoint")


def cached_store(data: Path, files: Sequence[Path], settings: Any) -> Path:
    """Return where the prepared store of raw files stands; it changes with them and with the settings."""
    stamps = [(str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    key = hashlib.sha256(json.dumps([stamps, settings], sort_keys=True).encode()).hexdigest()[:12]
    return cache_folder() / "stores" / f"{data.resolve().stem}-{key}"


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

    An older folder of that name is replaced; a failure brings it back.
    """
    target = target.resolve()
    with disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent))
        temporary.chmod(0o755)
        try:
            yield temporary
            _replace(target, temporary)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def new_store(target: Path) -> Iterator[Path]:
    """Yield a temporary folder as `new_folder` does, for a prepared store; nothing else is replaced by one.

    Raises:
        UsageError: ``target`` holds something that is not a store.
        CounterpointError: writing failed.
    """
    if target.exists() and not _may_be_replaced(target):
        raise UsageError(f"{target}: there is something else already; choose another place.")
    with new_folder(target) as folder, _polars_errors():
        yield folder


def _may_be_replaced(folder: Path) -> bool:
    """Return whether a folder is a store or empty."""
    is_store = (folder / "manifest.json").is_file() and (folder / "arrays").is_dir()
    return is_store or (folder.is_dir() and not any(folder.iterdir()))


@contextmanager
def _polars_errors() -> Iterator[None]:
    """Turn what polars raises when it cannot write into the error that Python raises."""
    import polars as pl

    try:
        yield
    except pl.exceptions.ComputeError as error:
        raise OSError(str(error)) from error


def _replace(target: Path, new: Path) -> None:
    """Give ``new`` the name ``target``; what had that name goes only when the new one is in its place."""
    old = new.with_suffix(".old")
    try:
        if target.exists():
            target.rename(old)
        new.rename(target)
    except BaseException:
        if old.exists() and not target.exists():
            old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def write_blocks(target: Path, blocks: "Iterable[pl.DataFrame]") -> int:
    """Write tables of one form as one Parquet file, atomically, one in memory at a time; return the rows."""
    import polars as pl

    rows = 0
    with new_file(target) as path, tempfile.TemporaryDirectory(dir=target.parent) as parts:
        for number, block in enumerate(blocks):
            block.write_parquet(Path(parts) / f"{number:08}.parquet")
            rows += len(block)
        pl.scan_parquet(Path(parts)).sink_parquet(path)
    return rows


def write_json(target: Path, content: Any) -> None:
    """Write ``content`` as indented JSON, atomically; a number that is not finite is written as null."""
    # JSON has no NaN, but Python writes it all the same.
    plain = json.loads(json.dumps(content), parse_constant=lambda _: None)
    with new_file(target) as path:
        path.write_text(json.dumps(plain, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read a JSON file; a missing or broken one is one sentence."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CounterpointError(f"{path}: no such file; check the path.") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CounterpointError(f"{path}: not valid JSON ({error}); write it again.") from error
