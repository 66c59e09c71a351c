"""Where the named entities stand in a title: characters first, then word pieces."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int16

from counterpoint.tasks.classification import IGNORE


class EntityFault(ValueError):
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
        raw: MIND's JSON list: objects with Type, SurfaceForms and, if known, OccurrenceOffsets, WikidataId and
            Confidence.

    Returns:
        Spans in the order of the title; counts under ``found``, ``searched`` and ``lost``.

    Raises:
        EntityFault: malformed JSON, a missing key, or an offset beyond the title.
    """
    counts: Counter[str] = Counter()
    spans: list[Span] = []
    for entity in _parsed(raw):
        forms: Sequence[str] = entity["SurfaceForms"]
        offsets: Sequence[int | None] = entity.get("OccurrenceOffsets") or [None] * len(forms)
        if len(forms) == 1:
            forms = [forms[0]] * len(offsets)
        for form, offset in zip(forms, offsets, strict=False):
            start, how = _position(title, form, offset)
            counts[how] += 1
            if start >= 0:
                spans.append(
                    Span(
                        start,
                        start + len(form),
                        str(entity.get("Type") or "?"),
                        str(entity.get("WikidataId") or ""),
                        float(entity.get("Confidence") or 0.0),
                    )
                )
    spans.sort(key=lambda span: (span.start - span.end, -span.confidence, span.start))
    kept: list[Span] = []
    for span in spans:
        if all(span.end <= other.start or other.end <= span.start for other in kept):
            kept.append(span)
    return sorted(kept, key=lambda span: span.start), counts


def tag(
    offsets: Sequence[tuple[int, int]], special: Sequence[int], spans: Sequence[Span], types: dict[str, int]
) -> Int16[np.ndarray, " tokens"]:
    """Return one typed BIO label a token: 0 outside, 1 + 2t begins type t, 2 + 2t continues it.

    Special tokens get `IGNORE`. A type seen for the first time is added to ``types``.
    """
    labels = np.zeros(len(offsets), dtype=np.int16)
    labels[np.asarray(special, dtype=bool)] = IGNORE
    for span in spans:
        kind = types.setdefault(span.type, len(types))
        first = True
        for token, (start, end) in enumerate(offsets):
            if labels[token] == 0 and start < span.end and span.start < end:
                labels[token] = 1 + 2 * kind if first else 2 + 2 * kind
                first = False
    return labels


def _parsed(raw: str | None) -> list[dict[str, Any]]:
    """Return the JSON list of entities; no text is no entity."""
    if raw is None or not raw.strip():
        return []
    try:
        entities = json.loads(raw)
    except json.JSONDecodeError as error:
        raise EntityFault(f"malformed JSON ({error})") from error
    if not isinstance(entities, list) or not all(
        isinstance(entity, dict) and isinstance(entity.get("SurfaceForms"), list) for entity in entities
    ):
        raise EntityFault("not a JSON list of objects with SurfaceForms")
    return entities


def _position(title: str, form: str, offset: int | None) -> tuple[int, str]:
    """Return where ``form`` stands in ``title`` (-1: nowhere) and how that was found."""
    if offset is not None:
        if not 0 <= offset < len(title):
            raise EntityFault(f"offset {offset} of {form!r} lies beyond the title of {len(title)} characters")
        if form and title.startswith(form, offset):
            return offset, "found"
    start = title.find(form) if form else -1
    return start, "lost" if start < 0 else "searched"
