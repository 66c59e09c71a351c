"""Columns of EB-NeRD that are never read: each tells something of the clicks that are to be predicted."""

from collections.abc import Iterable

from counterpoint.errors import UsageError

LEAKING = {
    "next_read_time": "it is how long the article of the coming click was read",
    "next_scroll_percentage": "it is how far the article of the coming click was scrolled",
    "total_inviews": "it is summed over the whole period, days yet to come included",
    "total_pageviews": "it is summed over the whole period, days yet to come included",
    "total_read_time": "it is summed over the whole period, days yet to come included",
}
"""The columns, and why."""


def refuse_leaking(names: Iterable[str]) -> None:
    """Refuse inputs that tell something of the clicks to be predicted.

    Raises:
        UsageError: one of ``names`` is such a column.
    """
    for column in names:
        if column in LEAKING:
            raise UsageError(
                f"{column!r} cannot be an input: {LEAKING[column]}, which nobody knows yet when the articles "
                "are ranked; leave it out."
            )
