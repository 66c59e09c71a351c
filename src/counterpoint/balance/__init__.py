"""Gradient balancing for several tasks over shared parameters; works alone with any PyTorch training loop.

balancer = balance.make("mtrec", scale=0.3)
report = balancer.backward({"click": l0, "category": l1}, shared=trunk.parameters(), target="click")
optimizer.step()
"""

import inspect
from typing import Any

from counterpoint.balance import checks
from counterpoint.balance.batch import Step, Tasks
from counterpoint.balance.blocks import BlockBalancer, TargetFirst
from counterpoint.balance.directions import PCGrad
from counterpoint.balance.engine import Balancer
from counterpoint.balance.losses import Equal, Fixed
from counterpoint.balance.report import Report
from counterpoint.balance.targets import MTRec, Single

__all__ = [
    "Balancer",
    "BlockBalancer",
    "Equal",
    "Fixed",
    "MTRec",
    "PCGrad",
    "Report",
    "Single",
    "Step",
    "TargetFirst",
    "Tasks",
    "available",
    "make",
]

_METHODS: dict[str, type[Balancer]] = {
    "equal": Equal,
    "fixed": Fixed,
    "mtrec": MTRec,
    "pcgrad": PCGrad,
    "single": Single,
}


def available() -> tuple[str, ...]:
    """Return the names `make` knows, in alphabetical order."""
    return tuple(sorted(_METHODS))


def make(name: str, **options: Any) -> Balancer:
    """Return a new balancer by name: `make("mtrec", scale=0.3)` is `MTRec(scale=0.3)`.

    Raises:
        ValueError: an unknown name, or an option out of range.
        TypeError: an option that the method does not have, or lacks.
    """
    if name not in _METHODS:
        raise ValueError(
            f"There is no method {name!r}{checks.near(name, _METHODS)}; there are {', '.join(available())}."
        )
    method = _METHODS[name]
    parameters = inspect.signature(method).parameters
    for option in options:
        if option not in parameters:
            has = ", ".join(parameters) or "no options"
            raise TypeError(
                f"{name!r} has no option {option!r}{checks.near(option, parameters)}; it has {has}."
            )
    for option, parameter in parameters.items():
        if parameter.default is parameter.empty and option not in options:
            raise TypeError(f"{name!r} needs the option {option!r}.")
    return method(**options)
