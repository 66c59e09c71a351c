"""Label rules: small expressions over a log's columns, such as ``play > quantile(play, 0.5)``."""

import ast
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any

import polars as pl

from counterpoint.errors import UsageError

_COMPARISONS: Mapping[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_ARITHMETIC: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_GRAMMAR = (
    "a rule compares columns, numbers and texts by < <= > >= == !=, joined by and, or, not, with + - * /, "
    "quantile(column, 0.5) and column('any name')"
)


@dataclass(frozen=True)
class Quantile:
    """A quantile that a rule takes: fitted on training rows, then a number.

    Attributes:
        text: as the rule has it.
        of: the expression that it is a quantile of.
        share: 0.5 for the median.
    """

    text: str
    of: pl.Expr
    share: float


@dataclass(frozen=True)
class Rule:
    """When a row has a label.

    Attributes:
        label: its name.
        text: the rule as it is written.
        numbers: columns that it takes as numbers.
        texts: columns that it compares with texts.
        quantiles: those it takes.
    """

    label: str
    text: str
    numbers: tuple[str, ...]
    texts: tuple[str, ...]
    quantiles: tuple[Quantile, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns that it takes."""
        return (*self.numbers, *self.texts)

    def expression(self, fitted: Mapping[str, float]) -> pl.Expr:
        """Return whether a row has the label, as an expression over the columns.

        Args:
            fitted: the value of each quantile by its text.
        """
        return _Reader(self.label, self.text, fitted).truth(_parsed(self.label, self.text))


def parse(label: str, text: str) -> Rule:
    """Read a rule.

    Only comparisons, arithmetic, ``and``, ``or``, ``not``, ``quantile`` and ``column`` are known: a rule is
    read, never run as Python.

    Raises:
        UsageError: it does not parse, or is no comparison.
    """
    reader = _Reader(label, text, None)
    reader.truth(_parsed(label, text))
    texts = dict.fromkeys(reader.texts)
    both = [name for name in dict.fromkeys(reader.numbers) if name in texts]
    if both:
        raise reader.wrong(f"{both[0]!r} is compared with a text and taken for a number")
    return Rule(label, text, tuple(dict.fromkeys(reader.numbers)), tuple(texts), tuple(reader.quantiles))


def _parsed(label: str, text: str) -> ast.expr:
    try:
        return ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else str(error)
        raise _wrong(label, text, reason) from None


def _wrong(label: str, text: str, what: str) -> UsageError:
    return UsageError(f"labels.{label}: the rule {text!r} does not parse ({what}); {_GRAMMAR}.")


class _Reader:
    """Turns the syntax of one rule into an expression, and notes the columns and quantiles on the way.

    Args:
        label: the rule's label, for messages.
        text: the rule.
        fitted: values of quantiles; without them quantiles are noted only.
    """

    def __init__(self, label: str, text: str, fitted: Mapping[str, float] | None) -> None:
        self._label, self._text, self._fitted = label, text, fitted
        self.numbers: list[str] = []
        self.texts: list[str] = []
        self.quantiles: list[Quantile] = []

    def wrong(self, what: str) -> UsageError:
        """Return the error that tells what is wrong with the rule."""
        return _wrong(self._label, self._text, what)

    def truth(self, node: ast.expr) -> pl.Expr:
        """Read what is true or false: a comparison, or several joined."""
        match node:
            case ast.BoolOp(op=op, values=values):
                joined = operator.and_ if isinstance(op, ast.And) else operator.or_
                return reduce(joined, map(self.truth, values))
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return ~self.truth(operand)
            case ast.Compare(left=left, ops=ops, comparators=comparators):
                sides = [left, *comparators]
                pairs = zip(ops, sides, sides[1:], strict=False)
                return reduce(operator.and_, (self._compared(op, *pair) for op, *pair in pairs))
        raise self.wrong(f"{ast.unparse(node)} is neither true nor false")

    def _compared(self, op: ast.cmpop, left: ast.expr, right: ast.expr) -> pl.Expr:
        compare = _COMPARISONS.get(type(op))
        if compare is None:
            raise self.wrong("only < <= > >= == != compare")
        for text, other in ((left, right), (right, left)):
            if isinstance(text, ast.Constant) and isinstance(text.value, str):
                if not isinstance(op, ast.Eq | ast.NotEq):
                    raise self.wrong(f"the text {text.value!r} is compared by == or != alone")
                column = self._column(other)
                if column is None:
                    raise self.wrong(f"the text {text.value!r} is compared with no column")
                self.texts.append(column)
                found: pl.Expr = compare(pl.col(column), pl.lit(text.value))
                return found
        compared: pl.Expr = compare(self.number(left), self.number(right))
        return compared

    def number(self, node: ast.expr) -> pl.Expr:
        """Read what is a number: a constant, a column, a quantile, or arithmetic on them."""
        match node:
            case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
                return pl.lit(float(value))
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return -self.number(operand)
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
                calculated: pl.Expr = _ARITHMETIC[type(op)](self.number(left), self.number(right))
                return calculated
            case ast.Call(func=ast.Name(id="quantile"), args=[of, share], keywords=[]):
                return self._quantile(node, of, share)
        column = self._column(node)
        if column is None:
            raise self.wrong(f"{ast.unparse(node)} is no number")
        self.numbers.append(column)
        return pl.col(column)

    def _quantile(self, call: ast.expr, of: ast.expr, share: ast.expr) -> pl.Expr:
        if not (isinstance(share, ast.Constant) and isinstance(share.value, int | float)):
            raise self.wrong(f"{ast.unparse(call)} needs a number from 0 to 1 after the comma")
        if not 0 <= share.value <= 1:
            raise self.wrong(f"{ast.unparse(call)} needs a number from 0 to 1, not {share.value}")
        inner = _Reader(self._label, self._text, None)
        text, expression = ast.unparse(call), inner.number(of)
        if inner.quantiles:
            raise self.wrong("a quantile of a quantile")
        self.numbers += inner.numbers
        self.quantiles.append(Quantile(text, expression, float(share.value)))
        return pl.lit(0.0 if self._fitted is None else self._fitted[text])

    def _column(self, node: ast.expr) -> str | None:
        match node:
            case ast.Name(id=name):
                return name
            case ast.Call(func=ast.Name(id="column"), args=[ast.Constant(value=str() as name)], keywords=[]):
                return name
        return None
