"""ByteDance's short videos (ICME 2019): twelve columns separated by tabs, without a header."""

from collections.abc import Mapping, Sequence

from counterpoint.feedback.data.formats import Chosen, Format

_HEADER = (
    "uid",
    "user_city",
    "item_id",
    "author_id",
    "item_city",
    "channel",
    "finish",
    "like",
    "music_id",
    "device",
    "time",
    "duration_time",
)


def _columns(columns: Sequence[str]) -> Chosen:
    ids = ("uid", "user_city", "item_id", "author_id", "item_city", "channel", "music_id", "device")
    return Chosen(user="uid", item="item_id", time="time", ids=ids, numbers=("duration_time",))


def _labels(columns: Sequence[str]) -> Mapping[str, str]:
    return {"finish": "finish == 1", "like": "like == 1"}


FORMAT = Format(
    name="byterec",
    summary="ByteDance's short videos (ICME 2019), twelve columns without a header",
    patterns=("byterec*.txt", "final_track*_train.txt"),
    columns=_columns,
    labels=_labels,
    header=_HEADER,
    separator="\t",
)
