"""Finding the files of a raw log, in a folder or named themselves."""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from counterpoint.behaviors.data.formats import FORMATS, Format
from counterpoint.errors import NoDataError, UsageError


@dataclass(frozen=True)
class Source:
    """The files of a raw log.

    Attributes:
        data: the folder or the file that was named.
        format: the log's form.
        log: the file of interactions.
        validation: a file of pairs that validate, if the data brings one.
        test: a file of pairs that test, if the data brings one.
    """

    data: Path
    format: Format
    log: Path
    validation: Path | None = None
    test: Path | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """All files that preparation reads."""
        return tuple(file for file in (self.log, self.validation, self.test) if file is not None)


def find(data: Path, format_name: str | None = None) -> Source:
    """Return the files of ``data``, a folder or one file of interactions alone.

    A folder may hold ``train*`` or ``interactions*`` (.parquet, .csv, .jsonl), with ``test*`` and
    ``validation*`` beside it if it brings its own split; or ``UserBehavior*.csv``; or ``*user_log*.csv``.
    The first goes before raw files in the same folder.

    Raises:
        UsageError: nothing readable is there, more than one log is, or the format is unknown.
    """
    if data.is_file():
        return Source(data, _format_of(data, format_name), data)
    if not data.is_dir():
        raise UsageError(f"{data}: no such file or folder; give the one that holds the log.")
    asked = FORMATS.asked(format_name)
    found = {entry: files for entry in asked if (files := _matching(data, entry.patterns))}
    own = {entry: files for entry, files in found.items() if entry.own}
    logs = [(entry, file) for entry, files in (own or found).items() for file in files]
    if not logs:
        wanted = ", or ".join(", ".join(entry.patterns) for entry in asked)
        raise NoDataError(f"{data}: no log found, looked for {wanted}.")
    log = _only(data, [file for _, file in logs], "logs")
    chosen = logs[0][0]
    if chosen.pairs is None:
        return Source(data, chosen, log)
    validation, test = (_held_out(data, split, chosen) for split in ("validation", "test"))
    if validation is not None and test is None:
        raise UsageError(
            f"{validation}: pairs that validate, but no test* beside them; add those that test, or remove it."
        )
    return Source(data, chosen, log, validation, test)


def _format_of(file: Path, format_name: str | None) -> Format:
    """Return the format of one file, by its name unless it is given."""
    asked = FORMATS.asked(format_name)
    fitting = asked if format_name else [entry for entry in asked if _fits(file, entry.patterns)]
    if not fitting:
        wanted = ", ".join(pattern for entry in asked for pattern in entry.patterns)
        raise UsageError(
            f"{file}: its name tells no format ({wanted}); say which it is: {', '.join(FORMATS.names)}."
        )
    # A name that fits several is one's own log: it goes before raw files.
    chosen = next((entry for entry in fitting if entry.own), fitting[0])
    if chosen.suffixes and file.suffix not in chosen.suffixes:
        raise UsageError(f"{file}: {chosen.name} are read from {', '.join(chosen.suffixes)}; convert it.")
    return chosen


def _held_out(folder: Path, split: str, form: Format) -> Path | None:
    """Return the one file of a split's pairs, if there is any."""
    files = _matching(folder, [f"{split}*{suffix}" for suffix in form.suffixes])
    return _only(folder, files, f"files of {split} pairs") if files else None


def _matching(folder: Path, patterns: Sequence[str]) -> list[Path]:
    """Return the files of a folder whose names fit a pattern."""
    return sorted(file for file in folder.iterdir() if file.is_file() and _fits(file, patterns))


def _fits(file: Path, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(file.name, pattern) for pattern in patterns)


def _only(folder: Path, files: list[Path], what: str) -> Path:
    """Return the one file there is."""
    if len(files) > 1:
        names = ", ".join(file.name for file in files)
        raise UsageError(f"{folder}: {len(files)} {what} ({names}); name one of them, or keep one here.")
    return files[0]
