"""Submissions in MIND's format: ``prediction.txt`` in a zip, one line an impression."""

import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int

from counterpoint.errors import CounterpointError
from counterpoint.evaluation.impressions import impression_metrics
from counterpoint.files import new_file
from counterpoint.news.data.store import Store
from counterpoint.news.evaluate import evaluate
from counterpoint.news.models.recommender import Recommender
from counterpoint.news.recipe import NewsRecipe
from counterpoint.progress import Progress

_NAME = "prediction.txt"


@dataclass(frozen=True)
class Submission:
    """A submission that was written and read back.

    Attributes:
        path: the zip.
        split: whose impressions.
        impressions: lines.
        metrics: computed from what was read back; empty where no impression can be scored.
    """

    path: Path
    split: str
    impressions: int
    metrics: dict[str, float]


def write_submission(
    model: Recommender, recipe: NewsRecipe, store: Store, split: str, out: Path, progress: Progress
) -> Submission:
    """Rank a split and write the rank of each candidate in its original position, 1 the best.

    Raises:
        CounterpointError: what is read back is not what was written, or scores differently.
    """
    outcome = evaluate(model, recipe, store, split, with_floors=False, progress=progress)
    shown = store.impressions(store.split(split))
    ids = store.impression_ids(shown.rows)
    with (
        new_file(out) as path,
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open(_NAME, "w") as lines,
    ):
        for number, impression in enumerate(ids):
            ranks = outcome.ranks[shown.offsets[number] : shown.offsets[number + 1]]
            lines.write(f"{impression} [{','.join(map(str, ranks))}]\n".encode())
    read = list(read_submission(out))
    same = [impression for impression, _ in read] == ids
    again = np.concatenate([ranks for _, ranks in read]) if read else np.empty(0, dtype=np.int64)
    if not same or not np.array_equal(again, outcome.ranks):
        raise CounterpointError(
            f"{out}: reads back differently from what was written; check the disk and write it again."
        )
    known = outcome.ranking.scored > 0
    metrics = impression_metrics(again, shown.clicked == 1, shown.offsets).metrics if known else {}
    if known and metrics != outcome.ranking.metrics:
        raise CounterpointError(
            f"{out}: scores {metrics}, evaluation {outcome.ranking.metrics}; please report this."
        )
    return Submission(out, split, len(ids), metrics)


def read_submission(path: Path) -> Iterator[tuple[str, Int[np.ndarray, " candidates"]]]:
    """Yield the id and the ranks of each impression of a submission.

    Raises:
        CounterpointError: a line is malformed, or its ranks are no permutation.
    """
    try:
        with zipfile.ZipFile(path) as archive, archive.open(_NAME) as lines:
            for number, line in enumerate(lines, 1):
                fields = line.decode("utf-8").split()
                try:
                    impression, listed = fields
                    ranks = np.array(json.loads(listed), dtype=np.int64)
                except ValueError:
                    raise CounterpointError(
                        f"{path}, {_NAME}, line {number}: not an id and a list of ranks; "
                        "write the submission again."
                    ) from None
                if not np.array_equal(np.sort(ranks), np.arange(1, len(ranks) + 1)):
                    raise CounterpointError(
                        f"{path}, {_NAME}, line {number}: the ranks are no permutation of 1 to {len(ranks)}; "
                        "write the submission again."
                    )
                yield impression, ranks
    except (zipfile.BadZipFile, KeyError) as error:
        raise CounterpointError(
            f"{path}: no zip with {_NAME} inside ({error}); write the submission again."
        ) from error
