"""Which columns of a log are read, in which roles, and which rules make its labels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from counterpoint.errors import CounterpointError, UsageError, nearest
from counterpoint.feedback.data.formats import Chosen, Format
from counterpoint.feedback.data.formats.table import JSON
from counterpoint.feedback.data.layout import Source
from counterpoint.feedback.data.rules import Rule, parse
from counterpoint.feedback.recipe import FeedbackRecipe
from counterpoint.storage.rows import parquet_schema
from counterpoint.storage.text_tables import csv_header, json_columns


@dataclass(frozen=True)
class Plan:
    """What is read of a log.

    Attributes:
        chosen: its columns in their roles.
        rules: of its labels.
        truth: by label, the column of its true probability; empty for real data.
    """

    chosen: Chosen
    rules: tuple[Rule, ...]
    truth: Mapping[str, str]

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels' names."""
        return tuple(rule.label for rule in self.rules)

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns that it takes, each once."""
        chosen = self.chosen
        single = [name for name in (chosen.user, chosen.item, chosen.time) if name is not None]
        of_rules = [name for rule in self.rules for name in rule.columns]
        every = [*single, *chosen.ids, *chosen.numbers, *chosen.lists, *of_rules, *self.truth.values()]
        return tuple(dict.fromkeys(every))


def plan(source: Source, recipe: FeedbackRecipe) -> Plan:
    """Put the recipe's columns and labels in the place of those of the log's format.

    Raises:
        UsageError: a column is missing, nothing is chosen, or a label's own column is among the features.
        CounterpointError: a file has no header.
    """
    columns = _available(source)
    given, default = recipe.columns, source.format.columns(columns)
    chosen = Chosen(
        user=_one(given.user, default.user),
        item=_one(given.item, default.item),
        time=_one(given.time, default.time),
        ids=default.ids if given.ids is None else given.ids,
        numbers=default.numbers if given.numbers is None else given.numbers,
        lists=default.lists if given.lists is None else given.lists,
    )
    written = dict(recipe.labels) or dict(source.format.labels(columns))
    if not written:
        raise UsageError(
            f"{source.data}: no labels; the recipe must say what they are, for example labels.like = "
            "'liked == 1'."
        )
    rules = tuple(parse(label, text) for label, text in written.items())
    if not (chosen.ids or chosen.numbers or chosen.lists):
        raise UsageError(
            f"{source.data}: no features; the recipe must name them, for example columns.ids = "
            '["user", "item"].'
        )
    _require(source, chosen, rules, columns)
    _refuse_answers(source, chosen, rules)
    truth = source.format.truth(columns)
    return Plan(chosen, rules, {label: truth[label] for label in written if label in truth})


def columns_of(file: Path, form: Format) -> Sequence[str]:
    """Return the columns of a file.

    Raises:
        CounterpointError: it is missing, empty or broken.
    """
    if file.suffix == ".parquet":
        return list(parquet_schema(file))
    if file.suffix in JSON:
        return json_columns(file)
    if form.header is not None:
        return form.header
    return csv_header(file, separator_of(file, form))


def separator_of(file: Path, form: Format) -> str:
    """Return what separates the fields of a file."""
    return "\t" if file.suffix == ".tsv" else form.separator


def _one(given: str | None, default: str | None) -> str | None:
    """Return the column given, none for an empty name, else the default."""
    return default if given is None else given or None


def _available(source: Source) -> list[str]:
    """Return all columns that every file of the log has, with those joined and derived."""
    form, first = source.format, source.log[0]
    columns = list(columns_of(first, form))
    for file in (*source.log[1:], *source.validation, *source.test):
        has = set(columns_of(file, form))
        columns = [name for name in columns if name in has]
    for joined, file in source.joined:
        joins = columns_of(file, form)
        if joined.key not in joins:
            raise CounterpointError(f"{file}: no column {joined.key!r}, which joins it to the log; name it.")
        columns += [name for name in joins if name not in columns]
    return columns + [name for name, (made_of, _) in form.derived.items() if made_of in columns]


def _require(source: Source, chosen: Chosen, rules: Sequence[Rule], columns: Sequence[str]) -> None:
    """Raise where a column is missing."""
    if chosen.user is not None and chosen.user not in columns:
        raise UsageError(
            f"{source.data}: the user column {chosen.user!r} is missing{nearest(chosen.user, columns)}; name "
            'it by columns.user, or set columns.user="" where there are no users.'
        )
    wanted = {
        "columns.item": [chosen.item],
        "columns.time": [chosen.time],
        "columns.ids": chosen.ids,
        "columns.numbers": chosen.numbers,
        "columns.lists": chosen.lists,
        **{f"labels.{rule.label}": rule.columns for rule in rules},
    }
    for key, names in wanted.items():
        for name in names:
            if name is not None and name not in columns:
                raise UsageError(
                    f"{source.data}: no column {name!r}, which {key} names{nearest(name, columns)}; it has "
                    f"{', '.join(columns[:20])}{' …' * (len(columns) > 20)}."
                )


def _refuse_answers(source: Source, chosen: Chosen, rules: Sequence[Rule]) -> None:
    """Refuse a feature that alone decides a label."""
    features = {*chosen.ids, *chosen.numbers, *chosen.lists}
    for rule in rules:
        if len(rule.columns) == 1 and rule.columns[0] in features:
            raise UsageError(
                f"{source.data}: the column {rule.columns[0]!r} is a feature and alone decides the label "
                f"{rule.label!r}, which would give the answer away; take it out of the features."
            )
