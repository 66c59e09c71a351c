"""Finding the files of a raw log, in a folder or named themselves."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

from counterpoint.errors import NoDataError, UsageError
from counterpoint.feedback.data.formats import FORMATS, Format, Joined, table


@dataclass(frozen=True)
class Source:
    """The files of a raw log.

    Attributes:
        data: the folder or the file that was named.
        format: the log's form.
        log: its files, in the order in which they are read.
        validation: files of rows that validate, if the data brings them.
        test: files of rows that test, if the data brings them.
        joined: tables of features, with what joins them.
    """

    data: Path
    format: Format
    log: tuple[Path, ...]
    validation: tuple[Path, ...] = ()
    test: tuple[Path, ...] = ()
    joined: tuple[tuple[Joined, Path], ...] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        """All files that preparation reads."""
        of_log = (*self.log, *self.validation, *self.test)
        partners = (self.format.partner_of(file) for file in of_log)
        return (*of_log, *filter(None, partners), *(path for _, path in self.joined))


def find(data: Path, format_name: str | None = None) -> Source:
    """Return the files of ``data``, a folder or one file of the log.

    Tables of features are looked for beside the log. Where the format is told, the log's files may also have
    the plain names ``train*``, ``validation*`` and ``test*``.

    Raises:
        UsageError: nothing readable is there, logs of more than one format are, or the format is unknown.
    """
    asked = FORMATS.asked(format_name)
    if data.is_file():
        chosen = asked[0] if format_name else _format_of(data)
        _require_partners(chosen, (data,))
        return Source(data, chosen, (data,), joined=_joined(data.parent, chosen))
    if not data.is_dir():
        raise UsageError(f"{data}: no such file or folder; give the one that holds the log.")
    found = [entry for entry in asked if _matching(data, entry.patterns)]
    if format_name and not found:
        found = [entry for entry in map(_plainly_named, asked) if _matching(data, entry.patterns)]
    if not found:
        wanted = ", or ".join(", ".join(entry.patterns) for entry in asked)
        raise NoDataError(f"{data}: no log found, looked for {wanted}.")
    if len(found) > 1:
        names = ", ".join(entry.name for entry in found)
        raise UsageError(f"{data}: logs of several formats ({names}); say which is meant, or name one file.")
    (chosen,) = found
    validation, test = _matching(data, chosen.validation), _matching(data, chosen.test)
    if validation and not test:
        raise UsageError(
            f"{validation[0]}: rows that validate, but none beside them that test; add a file of those "
            f"({', '.join(chosen.test)}), or remove it."
        )
    log = _matching(data, chosen.patterns)
    _require_partners(chosen, (*log, *validation, *test))
    return Source(data, chosen, log, validation, test, _joined(data, chosen))


def _plainly_named(entry: Format) -> Format:
    """Return a format whose files are named as those of one's own table."""
    suffixes = tuple(dict.fromkeys((*table.SUFFIXES, *(Path(pattern).suffix for pattern in entry.patterns))))
    log, validation, test = (
        table.named(stems, suffixes) for stems in (table.LOG, table.VALIDATION, table.TEST)
    )
    return replace(entry, patterns=log, validation=validation, test=test)


def _require_partners(entry: Format, files: Sequence[Path]) -> None:
    """Refuse files of a log without those that go with them."""
    for file in files:
        partner = entry.partner_of(file)
        if entry.partner is not None and partner == file:
            raise UsageError(
                f"{file}: its name does not tell which file goes with it; call it {entry.patterns[0]}."
            )
        if partner is not None and not partner.is_file():
            raise UsageError(f"{file.parent}: no {partner.name} beside {file.name}; put it there.")


def _format_of(file: Path) -> Format:
    """Return the format of one file by its name."""
    for entry in FORMATS:
        if _fits(file, (*entry.patterns, *entry.validation, *entry.test)):
            return entry
    if file.suffix in table.SUFFIXES:
        return table.FORMAT
    raise UsageError(f"{file}: its name tells no format; say which it is: {', '.join(FORMATS.names)}.")


def _joined(folder: Path, chosen: Format) -> tuple[tuple[Joined, Path], ...]:
    """Return the tables of features beside the log."""
    found = []
    for each in chosen.joined:
        files = _matching(folder, each.patterns)
        if len(files) > 1:
            names = ", ".join(file.name for file in files)
            raise UsageError(f"{folder}: {len(files)} tables of one kind ({names}); keep one of them here.")
        if each.needed and not files:
            raise UsageError(f"{folder}: no {' or '.join(each.patterns)} beside the log; put it there.")
        found += [(each, file) for file in files]
    return tuple(found)


def _matching(folder: Path, patterns: Sequence[str]) -> tuple[Path, ...]:
    """Return the files of a folder whose names fit a pattern, by name."""
    return tuple(sorted(file for file in folder.iterdir() if file.is_file() and _fits(file, patterns)))


def _fits(file: Path, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(file.name, pattern) for pattern in patterns)
