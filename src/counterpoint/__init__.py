"""Counterpoint trains recommenders on several tasks at once and keeps the tasks from drowning each other out.

>>> import counterpoint
>>> run = counterpoint.train("mtrec", data="MINDsmall")                  # doctest: +SKIP
>>> counterpoint.load(run.path).recommend(history=["N55528", "N19639"])  # doctest: +SKIP

`counterpoint.balance` works alone, in any PyTorch loop.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from counterpoint.api import (
        embed,
        evaluate,
        export,
        load,
        prepare,
        read_recipe,
        report,
        submit,
        train,
    )
    from counterpoint.studies.experiment import compare
    from counterpoint.studies.search import tune

__all__ = [
    "compare",
    "embed",
    "evaluate",
    "export",
    "load",
    "prepare",
    "read_recipe",
    "report",
    "submit",
    "train",
    "tune",
]


def __getattr__(name: str) -> Any:
    """Import the functions when they are first asked for: PyTorch takes its time."""
    if name in __all__:
        from importlib import import_module

        module = {"compare": "studies.experiment", "tune": "studies.search"}.get(name, "api")
        return getattr(import_module(f"counterpoint.{module}"), name)
    raise AttributeError(f"module 'counterpoint' has no attribute {name!r}")
