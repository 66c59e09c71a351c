"""KuaiRand (Gao et al., CIKM 2022): the standard log, with user and basic video features where they are.

Logs are CSV as published, or tables of the same columns separated by tabs. Extracts that keep explicit likes
and dislikes alone have the like in a column ``label``.
"""

from collections.abc import Mapping, Sequence

import polars as pl

from counterpoint.feedback.data.formats import Chosen, Format, Joined, among, beginning

_LABELS = {
    "click": ("is_click",),
    "long_view": ("long_view",),
    "like": ("is_like", "label"),
    "profile": ("is_profile_enter",),
    "comment": ("is_comment",),
    "forward": ("is_forward",),
    "follow": ("is_follow",),
}
_OF_USERS = (
    "user_active_degree",
    "is_lowactive_period",
    "is_live_streamer",
    "is_video_author",
    "follow_user_num_range",
    "fans_user_num_range",
    "friend_user_num_range",
    "register_days_range",
)
_OF_VIDEOS = ("author_id", "video_type", "upload_type", "music_id", "music_type")


def _columns(columns: Sequence[str]) -> Chosen:
    return Chosen(
        user="user_id",
        item="video_id",
        time="time_ms",
        ids=(
            "user_id",
            "video_id",
            "hour",
            *among(columns, "tab", *_OF_USERS),
            *beginning(columns, "onehot_feat"),
            *among(columns, *_OF_VIDEOS),
        ),
        numbers=("duration_ms",),
        lists=among(columns, "tag"),
    )


def _labels(columns: Sequence[str]) -> Mapping[str, str]:
    found = {label: among(columns, *names) for label, names in _LABELS.items()}
    return {label: f"{names[0]} == 1" for label, names in found.items() if names}


FORMAT = Format(
    name="kuairand",
    summary="KuaiRand: log_standard*.csv, with features of users and videos where they are",
    patterns=("log_standard*.csv", "*kuairand*.tsv", "*kuairand*.csv"),
    columns=_columns,
    labels=_labels,
    joined=(
        Joined(("user_features*.csv",), "user_id"),
        Joined(("video_features_basic*.csv",), "video_id"),
    ),
    list_separator=",",
    # 1659 is a minute before five in the afternoon, in Beijing's time.
    derived={"hour": ("hourmin", (pl.col("hourmin").cast(pl.Int64, strict=False) // 100).cast(pl.String))},
)
