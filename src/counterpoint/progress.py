"""How long work tells its progress: a function that any front end can supply."""

from typing import Protocol


class Progress(Protocol):
    """Called as work goes on; ``done`` and ``total`` share one unit, bytes or steps."""

    def __call__(self, label: str, done: int, total: int) -> None:
        """Show that ``done`` of ``total`` units of the work called ``label`` are behind us."""


def silent(label: str, done: int, total: int) -> None:
    """Show nothing."""


def named(progress: Progress, name: str) -> Progress:
    """Return ``progress`` with the name of what is being worked on before every label."""

    def told(label: str, done: int, total: int) -> None:
        progress(f"{name}: {label}", done, total)

    return told
