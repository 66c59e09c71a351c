"""``counterpoint recipes``."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from counterpoint.runs.recipe import Recipe


def recipes(
    name: Annotated[str | None, typer.Argument(help="A recipe to print in full, as TOML.")] = None,
) -> None:
    """List the built-in recipes, or print one with every key.

    Example: counterpoint recipes mtrec > mine.toml
    """
    from counterpoint.runs import recipe

    if name is not None:
        print(recipe.to_toml(_resolved(name)), end="")
        return
    names = recipe.builtin_names()
    width = max(map(len, names))
    for builtin in names:
        print(f"{builtin:{width}}  {recipe.read_table(builtin)['summary']}")


def _resolved(name: str) -> "Recipe":
    """Return a recipe; the balancing of a built-in one is known to be right, and PyTorch takes its time."""
    if name.endswith(".toml"):
        from counterpoint import api

        return api.read_recipe(name)
    from counterpoint.runs import recipe
    from counterpoint.workload import resolved

    return resolved(recipe.read_table(name), name)
