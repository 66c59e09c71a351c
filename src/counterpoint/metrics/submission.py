"""What is known of predictions that were written in the form that somebody else scores."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Submission:
    """A submission that was written and read back.

    Attributes:
        path: where it stands.
        split: whose units it answers.
        units: how many.
        unit: what they are, in the plural: impressions, answers.
        metrics: computed from what was read back; empty where no answer can be scored.
        notes: sentences for whoever sends it in.
    """

    path: Path
    split: str
    units: int
    unit: str
    metrics: Mapping[str, float]
    notes: Sequence[str] = ()
