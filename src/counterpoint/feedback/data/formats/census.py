"""Census-Income (UCI), in the form in which multi-task libraries share it: who earns more, who never married.

There are no users: every row counts by itself, and no metric goes by user.
"""

from collections.abc import Mapping, Sequence

from counterpoint.feedback.data.formats import Chosen, Format, among

_NUMBERS = (
    "age",
    "wage per hour",
    "capital gains",
    "capital losses",
    "divdends from stocks",  # as the file has it
    "num persons worked for employer",
    "weeks worked in year",
)


def _columns(columns: Sequence[str]) -> Chosen:
    numbers = among(columns, *_NUMBERS)
    ids = tuple(name for name in columns if name not in (*numbers, "income", "marital status"))
    return Chosen(ids=ids, numbers=numbers)


def _labels(columns: Sequence[str]) -> Mapping[str, str]:
    # Marital status is what the second task asks for, so it is none of the features.
    return {"income": "income == 1", "never_married": "column('marital status') == 0"}


FORMAT = Format(
    name="census",
    summary="Census-Income, split into train and test",
    patterns=("census_income*train*.csv",),
    columns=_columns,
    labels=_labels,
    validation=("census_income*val*.csv",),
    test=("census_income*test*.csv",),
)
