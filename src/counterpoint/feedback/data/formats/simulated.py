"""What ``counterpoint simulate feedback`` writes: views with their labels and their true probabilities."""

from collections.abc import Mapping, Sequence

from counterpoint.feedback.data.formats import Chosen, Format, beginning

LABEL, TRUTH = "label_", "true_"


def _columns(columns: Sequence[str]) -> Chosen:
    return Chosen(
        user="user",
        item="video",
        time="time",
        ids=("user", "video", "author", "topic", "device", "hour"),
        numbers=("duration",),
        lists=("tags",),
    )


def _labels(columns: Sequence[str]) -> Mapping[str, str]:
    return {name.removeprefix(LABEL): f"{name} == 1" for name in beginning(columns, LABEL)}


def _truth(columns: Sequence[str]) -> Mapping[str, str]:
    return {name.removeprefix(TRUTH): name for name in beginning(columns, TRUTH)}


FORMAT = Format(
    name="simulated",
    summary="what counterpoint simulate feedback writes",
    patterns=("simulated-views*.parquet",),
    columns=_columns,
    labels=_labels,
    truth=_truth,
)
