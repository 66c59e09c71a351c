"""Ali-CCP (Tianchi) as a table: a column for each field, beside ``click`` and ``purchase``.

Field 101 is the user and 205 the item; fields that begin with D are numbers.
"""

from collections.abc import Mapping, Sequence

from counterpoint.feedback.data.formats import Chosen, Format

_LABELS = ("click", "purchase")


def _columns(columns: Sequence[str]) -> Chosen:
    numbers = tuple(name for name in columns if name.startswith("D"))
    ids = tuple(name for name in columns if name not in (*_LABELS, *numbers))
    return Chosen(user="101", item="205", ids=ids, numbers=numbers)


def _labels(columns: Sequence[str]) -> Mapping[str, str]:
    return {label: f"{label} == 1" for label in _LABELS}


FORMAT = Format(
    name="aliccp",
    summary="Ali-CCP as a table, a column for each field",
    patterns=("ali_ccp*train*.csv",),
    columns=_columns,
    labels=_labels,
    validation=("ali_ccp*val*.csv",),
    test=("ali_ccp*test*.csv",),
)
