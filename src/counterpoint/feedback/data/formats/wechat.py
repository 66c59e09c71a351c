"""The WeChat Big Data Challenge 2021: ``user_action.csv`` and ``feed_info.csv`` as they are given.

Play times are milliseconds, the videos' lengths seconds. The labels are those of paper 5 (4.1.1): views
longer than the median (effective) and than three quarters of all (long), to the end (complete), and what
users did.
"""

from collections.abc import Mapping, Sequence

from counterpoint.feedback.data.formats import Chosen, Format, Joined

LABELS = {
    "effective_view": "play > quantile(play, 0.5)",
    "long_view": "play > quantile(play, 0.75)",
    "complete_view": "play >= videoplayseconds * 1000",
    "like": "like == 1",
    "follow": "follow == 1",
    "forward": "forward == 1",
}


def _columns(columns: Sequence[str]) -> Chosen:
    return Chosen(
        user="userid",
        item="feedid",
        time="date_",
        ids=("userid", "feedid", "device", "authorid", "bgm_song_id", "bgm_singer_id"),
        numbers=("videoplayseconds",),
    )


def _labels(columns: Sequence[str]) -> Mapping[str, str]:
    return LABELS


FORMAT = Format(
    name="wechat",
    summary="WeChat Big Data Challenge 2021: user_action.csv and feed_info.csv",
    patterns=("user_action*.csv",),
    columns=_columns,
    labels=_labels,
    joined=(Joined(("feed_info*.csv",), "feedid", needed=True),),
)
