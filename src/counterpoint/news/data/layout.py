"""Finding the files of a raw data folder, whatever its layout."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from counterpoint.errors import NoDataError, UsageError
from counterpoint.news.data.formats import FORMATS, Format

Role = Literal["train", "dev", "test", "all"]

_ROLES: tuple[tuple[Role, str], ...] = (("train", "train"), ("dev", "dev|valid|validation"), ("test", "test"))


@dataclass(frozen=True)
class Part:
    """One file of impressions and what its place says about its use.

    Attributes:
        role: its use.
        place: the folder or the file that says so, for people.
        impressions: the file.
        histories: the file of its readers' histories, where the format has one.
    """

    role: Role
    place: str
    impressions: Path
    histories: Path | None


@dataclass(frozen=True)
class Source:
    """The files of a raw data folder; ``articles`` may be missing."""

    folder: Path
    format: Format
    articles: tuple[Path, ...]
    parts: tuple[Part, ...]
    vectors: tuple[Path, ...]

    @property
    def files(self) -> tuple[Path, ...]:
        """All files that preparation reads."""
        return (
            *self.articles,
            *(part.impressions for part in self.parts),
            *(part.histories for part in self.parts if part.histories is not None),
            *self.vectors,
        )


def find(folder: Path, format_name: str | None = None) -> Source:
    """Return the files of ``folder`` by format and layout.

    Understood are the folders ``train``, ``dev`` (or ``valid``, ``validation``) and ``test``, also with a
    prefix (``MINDsmall_train``); files with the role in their names (``behaviors_train.tsv``); one folder
    with a single file of impressions, which is later split by day; and a folder that holds such folders, of
    which one has training impressions (``ebnerd_small`` beside ``ebnerd_testset``).

    Raises:
        UsageError: the folder is missing, the format unknown, or nothing readable is there.
    """
    if not folder.is_dir():
        raise NoDataError(f"{folder}: no such folder; give the folder that holds the data.")
    formats = FORMATS.asked(format_name)
    for candidate in formats:
        parts = _parts(folder, candidate)
        if parts:
            holders = [part.impressions.parent for part in parts]
            above = [holder.parent for holder in holders if folder in holder.parents]
            places = dict.fromkeys([folder, *above, *holders])
            articles = [file for place in places for file in _first(place, candidate.article_files)]
            vectors = [
                file
                for place in places
                for kind in ("entity", "relation")
                for file in [place / f"{kind}_embedding.vec"]
                if file.is_file()
            ]
            return Source(folder, candidate, tuple(articles), parts, tuple(vectors))
    wanted = "; or ".join(
        f"{' or '.join(entry.impression_files)} with {' or '.join(entry.article_files)}" for entry in formats
    )
    raise NoDataError(f"{folder}: no data found, looked for {wanted}, there or in train/, dev/, test/.")


def _parts(folder: Path, candidate: Format) -> tuple[Part, ...]:
    """Return the files of impressions with their roles; one file alone has the role ``all``."""
    parts = _by_role(folder, candidate)
    if not parts and _first(folder, candidate.impression_files):
        return (_part("all", folder.name, _first(folder, candidate.impression_files)[0], candidate),)
    if not parts:
        inside = sorted(path for path in folder.iterdir() if path.is_dir())
        found = {path: _by_role(path, candidate) for path in inside}
        training = [path.name for path, own in found.items() if any(part.role == "train" for part in own)]
        if len(training) > 1:
            raise UsageError(
                f"{folder}: {' and '.join(training)} all have training impressions; give one of them."
            )
        parts = [part for own in found.values() for part in own]
    roles = {part.role for part in parts}
    if parts and "train" not in roles and roles != {"test"}:
        raise UsageError(f"{folder}: found {parts[0].impressions} but no training impressions; add train/.")
    return tuple(parts)


def _by_role(folder: Path, candidate: Format) -> list[Part]:
    """Return the files of impressions whose folder or name tells a role."""
    parts: list[Part] = []
    for role, names in _ROLES:
        pattern = re.compile(rf"(?:.*[_-])?(?:{names})", re.IGNORECASE)
        for place in sorted(
            path for path in folder.iterdir() if path.is_dir() and pattern.fullmatch(path.name)
        ):
            files = _first(place, candidate.impression_files)
            parts += [_part(role, f"{place.name} folder", file, candidate) for file in files]
        for file_name in candidate.impression_files:
            stem, suffix = file_name.split(".")
            files = [
                file for file in sorted(folder.glob(f"{stem}_*.{suffix}")) if pattern.fullmatch(file.stem)
            ]
            parts += [_part(role, file.name, file, candidate) for file in files]
    return parts


def _part(role: Role, place: str, impressions: Path, candidate: Format) -> Part:
    """Return a part with its file of histories: ``history_train`` belongs to ``behaviors_train``."""
    if candidate.history_file is None:
        return Part(role, place, impressions, None)
    of_all, of_histories = Path(candidate.impression_files[0]).stem, Path(candidate.history_file).stem
    histories = impressions.with_name(impressions.name.replace(of_all, of_histories))
    if not histories.is_file():
        raise UsageError(
            f"{histories}: missing; put the readers' histories there, beside {impressions.name}."
        )
    return Part(role, place, impressions, histories)


def _first(place: Path, names: tuple[str, ...]) -> list[Path]:
    """Return the first of ``names`` that stands in ``place``, if any."""
    return [place / name for name in names if (place / name).is_file()][:1]
