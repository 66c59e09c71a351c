"""Where the named entities stand in a title: characters first, then word pieces."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int32
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from counterpoint.news.data.store import IGNORE


class EntityError(ValueError):
    """The entities of a row are malformed."""


@dataclass(frozen=True)
class Span:
    """An entity in a title: characters ``start`` to ``end``, its type, id and confidence."""

    start: int
    end: int
    type: str
    entity: str
    confidence: float


def locate(title: str, raw: str | None) -> tuple[list[Span], Counter[str]]:
    """Return the entities found in ``title`` and how they were found.

    A given offset counts only where the title really reads so; otherwise the surface form is searched, else
    the entity is lost. Where spans overlap, the longest wins, then the most confident.

    Args:
        title: the title.
        raw: MIND's JSON list: objects with SurfaceForms and, if known, Type, OccurrenceOffsets, WikidataId
            and Confidence.

    Returns:
        Spans in the order of the title; counts under ``found``, ``searched``, ``lost`` and ``overlapping``.

    Raises:
        EntityError: malformed JSON, a missing key, or an offset beyond the title.
    """
    counts: Counter[str] = Counter()
    spans: list[Span] = []
    for entity in _parsed(raw):
        forms = entity.forms
        offsets: Sequence[int | None] = entity.offsets or [None] * len(forms)
        if len(forms) == 1:
            forms = [forms[0]] * len(offsets)
        for form, offset in zip(forms, offsets, strict=False):
            start, how = _position(title, form, offset)
            counts[how] += 1
            if start >= 0:
                end, kind = start + len(form), entity.type or "?"
                spans.append(Span(start, end, kind, entity.wikidata or "", entity.confidence or 0.0))
    spans.sort(key=lambda span: (span.start - span.end, -span.confidence, span.start))
    kept: list[Span] = []
    for span in spans:
        if all(span.end <= other.start or other.end <= span.start for other in kept):
            kept.append(span)
    counts["overlapping"] = len(spans) - len(kept)
    return sorted(kept, key=lambda span: span.start), counts


def mentioned(raw: str | None) -> list[str]:
    """Return the distinct entities of MIND's JSON list in their order: Wikidata id, else surface form.

    Raises:
        EntityError: malformed JSON or a missing key.
    """
    names = (entity.wikidata or next(filter(None, entity.forms), "") for entity in _parsed(raw))
    return list(dict.fromkeys(filter(None, names)))


def tag(
    offsets: Sequence[tuple[int, int]], special: Sequence[int], spans: Sequence[Span], types: dict[str, int]
) -> Int32[np.ndarray, " tokens"]:
    """Return one typed BIO label a token: 0 outside, 1 + 2t begins type t, 2 + 2t continues it.

    Special tokens get `IGNORE`. A type seen for the first time is added to ``types``.
    """
    labels = np.zeros(len(offsets), dtype=np.int32)
    labels[np.asarray(special, dtype=bool)] = IGNORE
    for span in spans:
        kind = types.setdefault(span.type, len(types))
        first = True
        for token, (start, end) in enumerate(offsets):
            if labels[token] == 0 and start < span.end and span.start < end:
                labels[token] = 1 + 2 * kind if first else 2 + 2 * kind
                first = False
    return labels


class _Entity(BaseModel):
    """An entity as MIND writes it."""

    forms: list[str] = Field(alias="SurfaceForms")
    offsets: list[int] | None = Field(None, alias="OccurrenceOffsets")
    type: str | None = Field(None, alias="Type")
    wikidata: str | None = Field(None, alias="WikidataId")
    confidence: float | None = Field(None, alias="Confidence")


_ENTITIES = TypeAdapter(list[_Entity])


def _parsed(raw: str | None) -> list[_Entity]:
    """Return the JSON list of entities; no text is no entity."""
    if raw is None or not raw.strip():
        return []
    try:
        return _ENTITIES.validate_json(raw)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise EntityError(f"{place}: {first['msg']}" if place else first["msg"]) from error


def _position(title: str, form: str, offset: int | None) -> tuple[int, str]:
    """Return where ``form`` stands in ``title`` (-1: nowhere) and how that was found."""
    if offset is not None:
        if not 0 <= offset < len(title):
            raise EntityError(f"offset {offset} of {form!r} lies beyond the title of {len(title)} characters")
        if form and title.startswith(form, offset):
            return offset, "found"
    start = title.find(form) if form else -1
    return start, "lost" if start < 0 else "searched"
