"""The columns of a log by role: what the parts call them, their types, and which values are malformed."""

from pathlib import Path

import polars as pl

from counterpoint.errors import CounterpointError
from counterpoint.feedback.data.plan import Plan
from counterpoint.storage.rows import BadRows, Check, drop_bad
from counterpoint.storage.text_tables import JSON_LIST, said

USER, ITEM, TIME = "user", "item", "time"
_WHOLE = r"^-?\d+$"


def of_id(name: str) -> str:
    """Return what the parts call a column of ids, which are texts or null."""
    return f"id {name}"


def of_number(name: str) -> str:
    """Return what the parts call a column of numbers, finite or null."""
    return f"number {name}"


def of_list(name: str) -> str:
    """Return what the parts call a list column, of texts."""
    return f"list {name}"


def of_truth(label: str) -> str:
    """Return what the parts call the true probability of a label."""
    return f"truth {label}"


def of_rule(name: str) -> str:
    """Return what the parts call a column that rules take: numbers, or texts."""
    return f"rule {name}"


def typed(
    block: pl.DataFrame,
    plan: Plan,
    list_separator: str,
    kinds: dict[str, bool],
    bad: BadRows,
    file: Path,
) -> pl.DataFrame:
    """Check a block's rows and return its columns by role.

    Args:
        block: raw columns.
        plan: which of them have which roles.
        list_separator: between the ids of a list that is text.
        kinds: by list column, whether its ids are whole numbers, as far as is known; filled in.
        bad: what to do with malformed rows.
        file: where the rows come from.
    """
    chosen, schema = plan.chosen, block.schema
    _refuse_nested(plan, schema, file)
    typed: list[pl.Expr] = []
    checks: list[Check] = []
    for role, name in ((USER, chosen.user), (ITEM, chosen.item)):
        if name is not None:
            typed.append(_text(name).alias(role))
            checks.append(
                Check(name, _text(name).is_null(), said(name, ""), f"give every row a value of {name}")
            )
    if chosen.time is not None:
        moment = pl.col(chosen.time).cast(pl.Int64, strict=False)
        typed.append(moment.alias(TIME))
        problem = said(chosen.time, "no whole number")
        checks.append(Check(chosen.time, moment.is_null(), problem, "write a whole number that ascends"))
    typed += [_text(name).alias(of_id(name)) for name in chosen.ids]
    for name in chosen.numbers:
        typed.append(_number(name).alias(of_number(name)))
        checks.append(_finite(name, missing_is_wrong=False))
    numbers = dict.fromkeys(name for rule in plan.rules for name in rule.numbers)
    texts = dict.fromkeys(name for rule in plan.rules for name in rule.texts)
    for name in numbers:
        typed.append(_number(name).alias(of_rule(name)))
        checks.append(_finite(name, missing_is_wrong=True))
    for name in texts:
        typed.append(_text(name).alias(of_rule(name)))
        checks.append(Check(name, _text(name).is_null(), said(name, ""), "give every row a label"))
    for label, name in plan.truth.items():
        typed.append(_number(name).cast(pl.Float32).alias(of_truth(label)))
    lists = [_list(name, schema[name], list_separator, file).alias(of_list(name)) for name in chosen.lists]
    block = block.with_columns(lists)
    for name in chosen.lists:
        check = _of_one_kind(name, block, kinds)
        checks += [check] if check else []
    sound = drop_bad(block, checks, bad, file)
    return sound.select(*typed, *map(of_list, chosen.lists))


def _refuse_nested(plan: Plan, schema: pl.Schema, file: Path) -> None:
    """Refuse a column of lists where one value is asked for."""
    chosen = plan.chosen
    single = [name for name in (chosen.user, chosen.item, chosen.time) if name is not None]
    of_rules = [name for rule in plan.rules for name in rule.columns]
    for name in (*single, *chosen.ids, *chosen.numbers, *of_rules):
        if schema[name].is_nested():
            raise CounterpointError(
                f"{file}: the column {name!r} holds lists; name it in columns.lists and nowhere else."
            )


def _text(name: str) -> pl.Expr:
    """Return a column as text, null where it is empty."""
    text = pl.col(name).cast(pl.String)
    return pl.when(text != "").then(text)


def _number(name: str) -> pl.Expr:
    return pl.col(name).cast(pl.Float64, strict=False)


def _finite(name: str, *, missing_is_wrong: bool) -> Check:
    """Refuse what is no number, NaN or infinity; a missing one is another matter."""
    missing = _text(name).is_null()
    wrong = ~_number(name).is_finite().fill_null(False)
    remedy = "correct it or remove the row" if missing_is_wrong else "correct it or leave it empty"
    return Check(
        name, wrong if missing_is_wrong else wrong & ~missing, said(name, "no finite number"), remedy
    )


def _list(name: str, kind: pl.DataType, separator: str, file: Path) -> pl.Expr:
    """Return a list column as lists of texts without empty ones."""
    if isinstance(kind, pl.List | pl.Array):
        lists = pl.col(name).cast(pl.List(pl.String))
    elif kind == JSON_LIST:
        lists = pl.col(name).struct.field("ids")
    elif kind == pl.String:
        lists = pl.col(name).str.split(separator)
    else:
        raise CounterpointError(
            f"{file}: the list column {name!r} holds {kind}, no lists; give lists, or texts with the ids "
            f"separated by {separator!r}."
        )
    filled = lists.list.eval(pl.element().filter(pl.element().is_not_null() & (pl.element() != "")))
    return filled.fill_null([])


def _of_one_kind(name: str, block: pl.DataFrame, kinds: dict[str, bool]) -> Check | None:
    """Refuse lists with numbers where those before have texts, or the other way round; or both in one."""
    raw, elements = block.schema[name], block[of_list(name)].explode().drop_nulls()
    if not len(elements):
        return None
    # Lists of Parquet and JSON tell what they hold; of texts, the first id that is met tells what all are.
    filled = pl.col(of_list(name)).list.len() > 0
    numbers: pl.Expr
    texts: pl.Expr
    if isinstance(raw, pl.List | pl.Array) and raw.inner is not None:
        first = raw.inner.is_integer()
        numbers, texts = pl.lit(first) & filled, pl.lit(not first) & filled
    elif raw == JSON_LIST:
        first = bool(block[name].struct.field("whole").drop_nulls()[0])
        of_first, mixed = (pl.col(name).struct.field(field) for field in ("whole", "mixed"))
        numbers, texts = of_first | mixed, ~of_first | mixed
    else:
        matches = pl.col(of_list(name)).list.eval(pl.element().str.contains(_WHOLE))
        first = bool(elements.head(1).str.contains(_WHOLE)[0])
        numbers, texts = matches.list.any(), ~matches.list.all()
    whole = kinds.setdefault(name, first)
    kind, other = ("numbers", "texts") if whole else ("texts", "numbers")
    problem = pl.lit(f"the list has {other}, where those before have {kind}")
    wrong = (texts if whole else numbers).fill_null(False)
    return Check(name, wrong, problem, "write all ids of a list column alike")
