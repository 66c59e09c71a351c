"""AliExpress search (Tianchi), in the form in which multi-task libraries share it, split into train and test.

Columns ``categorical_1`` …, ``numerical_1`` …, ``click``, ``conversion`` and ``search_id``: users are not
told, so the rows of one search count together.
"""

from collections.abc import Mapping, Sequence

from counterpoint.feedback.data.formats import Chosen, Format, beginning


def _columns(columns: Sequence[str]) -> Chosen:
    return Chosen(
        user="search_id", ids=beginning(columns, "categorical_"), numbers=beginning(columns, "numerical_")
    )


def _labels(columns: Sequence[str]) -> Mapping[str, str]:
    return {"click": "click == 1", "conversion": "conversion == 1"}


FORMAT = Format(
    name="aliexpress",
    summary="AliExpress search, split into train and test",
    patterns=("aliexpress*train*.csv",),
    columns=_columns,
    labels=_labels,
    validation=("aliexpress*val*.csv",),
    test=("aliexpress*test*.csv",),
)
