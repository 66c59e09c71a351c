"""``counterpoint recipes``."""

from typing import Annotated

import typer


def recipes(
    name: Annotated[str | None, typer.Argument(help="A recipe to print in full, as TOML.")] = None,
) -> None:
    """List the built-in recipes, or print one with every key.

    Example: counterpoint recipes mtrec > mine.toml
    """
    from counterpoint.runs import recipe

    if name is not None:
        from counterpoint import api

        print(recipe.to_toml(api.read_recipe(name)), end="")
        return
    names = recipe.builtin_names()
    width = max(map(len, names))
    for builtin in names:
        print(f"{builtin:{width}}  {recipe.read_table(builtin)['summary']}")
