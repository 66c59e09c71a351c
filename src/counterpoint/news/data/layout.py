"""Finding the files of a raw data folder, whatever its layout."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from counterpoint.errors import UsageError, nearest
from counterpoint.news.data import logs, mind
from counterpoint.news.data.rows import Format

FORMATS: dict[str, Format] = {"mind": mind, "logs": logs}

Role = Literal["train", "dev", "test", "all"]

_ROLES: tuple[tuple[Role, str], ...] = (("train", "train"), ("dev", "dev|valid|validation"), ("test", "test"))


@dataclass(frozen=True)
class Part:
    """One file of impressions and what its place says about its use."""

    role: Role
    impressions: Path


@dataclass(frozen=True)
class Source:
    """The files of a raw data folder."""

    format: Format
    articles: tuple[Path, ...]
    parts: tuple[Part, ...]
    vectors: tuple[Path, ...]

    @property
    def files(self) -> tuple[Path, ...]:
        """All files that preparation reads."""
        return (*self.articles, *(part.impressions for part in self.parts), *self.vectors)


def find(folder: Path, format_name: str | None = None) -> Source:
    """Return the files of ``folder`` by format and layout.

    Understood are the folders ``train``, ``dev`` (or ``valid``, ``validation``) and ``test``, also with a
    prefix (``MINDsmall_train``); files with the role in their names (``behaviors_train.tsv``); and one folder
    with a single file of impressions, which is later split by day.

    Raises:
        UsageError: the folder is missing, the format unknown, or nothing readable is there.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder; give the folder that holds the data.")
    if format_name is not None and format_name not in FORMATS:
        raise UsageError(
            f"--format {format_name}: unknown{nearest(format_name, FORMATS)}; known: {', '.join(FORMATS)}."
        )
    formats = [FORMATS[format_name]] if format_name else list(FORMATS.values())
    for candidate in formats:
        parts = _parts(folder, candidate)
        if parts:
            places = dict.fromkeys([folder, *(part.impressions.parent for part in parts)])
            articles = [file for place in places for file in _first(place, candidate.article_files)]
            if not articles:
                wanted = " or ".join(candidate.article_files)
                raise UsageError(
                    f"{folder}: there is {parts[0].impressions.name} but no {wanted}; "
                    "put the articles beside it."
                )
            vectors = [
                file
                for place in places
                for kind in ("entity", "relation")
                for file in [place / f"{kind}_embedding.vec"]
                if file.is_file()
            ]
            return Source(candidate, tuple(articles), parts, tuple(vectors))
    wanted = "; or ".join(
        f"{' or '.join(entry.impression_files)} with {' or '.join(entry.article_files)}" for entry in formats
    )
    raise UsageError(f"{folder}: no data found, looked for {wanted}, there or in train/, dev/, test/.")


def _parts(folder: Path, candidate: Format) -> tuple[Part, ...]:
    """Return the files of impressions with their roles; one file alone has the role ``all``."""
    parts: list[Part] = []
    for role, names in _ROLES:
        pattern = re.compile(rf"(?:.*[_-])?(?:{names})", re.IGNORECASE)
        for place in sorted(
            path for path in folder.iterdir() if path.is_dir() and pattern.fullmatch(path.name)
        ):
            parts += [Part(role, file) for file in _first(place, candidate.impression_files)]
        for file_name in candidate.impression_files:
            stem, suffix = file_name.split(".")
            parts += [
                Part(role, file)
                for file in sorted(folder.glob(f"{stem}_*.{suffix}"))
                if pattern.fullmatch(file.stem)
            ]
    if not parts:
        parts = [Part("all", file) for file in _first(folder, candidate.impression_files)]
    elif all(part.role != "train" for part in parts):
        raise UsageError(f"{folder}: found {parts[0].impressions} but no training impressions; add train/.")
    return tuple(parts)


def _first(place: Path, names: tuple[str, ...]) -> list[Path]:
    """Return the first of ``names`` that stands in ``place``, if any."""
    return [place / name for name in names if (place / name).is_file()][:1]
