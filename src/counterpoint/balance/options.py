"""What the options of methods may be, said in one sentence where they are not."""

from collections.abc import Sequence
from math import inf
from numbers import Real
from typing import Literal

Reduction = Literal["sum", "mean"]


def one_of(option: str, value: object, allowed: Sequence[str]) -> None:
    """Raise unless the option has one of the allowed values."""
    if value not in allowed:
        raise ValueError(f"{option} must be one of {', '.join(map(repr, allowed))}, not {value!r}.")


def count(option: str, value: object) -> None:
    """Raise unless the option is a whole number from 1 on."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{option} must be a whole number from 1 on, not {value!r}.")


def within(option: str, value: float, low: float, high: float) -> None:
    """Raise unless the option lies between two numbers, both included."""
    _number(option, value)
    if not low <= value <= high:
        raise ValueError(f"{option} must be between {low:g} and {high:g}, not {value!r}.")


def positive(option: str, value: float) -> None:
    """Raise unless the option is a positive finite number."""
    _number(option, value)
    if not 0 < value < inf:
        raise ValueError(f"{option} must be a positive finite number, not {value!r}.")


def from_zero(option: str, value: float) -> None:
    """Raise unless the option is a finite number that is not negative."""
    _number(option, value)
    if not 0 <= value < inf:
        raise ValueError(f"{option} must be a finite number from 0 on, not {value!r}.")


def below_one(option: str, value: float) -> None:
    """Raise unless the option may be the decay of an average."""
    _number(option, value)
    if not 0 <= value < 1:
        raise ValueError(f"{option} must be from 0 to below 1, not {value!r}.")


def _number(option: str, value: object) -> None:
    if not isinstance(value, Real):
        raise TypeError(f"{option} must be a number, not {value!r}.")
