"""Ablations: comparisons that a paper makes, each one TOML file."""

import tomllib
from importlib import resources
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from counterpoint.errors import UsageError, nearest
from counterpoint.recipe import Section


class Figure(Section):
    """A figure of the paper, drawn from the runs' logs."""

    title: str
    draws: Literal["cosine", "losses", "validation"] = Field(
        description="the target's gradient against the auxiliaries', the losses or the validation metrics"
    )
    recipes: tuple[str, ...] = Field((), description="whose lines are drawn; by default all recipes'")


class Ablation(Section):
    """Recipes that differ in one thing each, and the baseline they are set against."""

    title: str
    source: str = Field("", description="the paper's table or figure")
    baseline: str
    recipes: tuple[str, ...] = Field(min_length=2)
    settings: tuple[str, ...] = Field((), description="key=value, for all of the recipes")
    figures: tuple[Figure, ...] = ()


def ablation_names() -> list[str]:
    """Return the names of the built-in ablations."""
    folder = resources.files("counterpoint.recipes") / "ablations"
    return sorted(file.name.removesuffix(".toml") for file in folder.iterdir() if file.name.endswith(".toml"))


def read_ablation(name: str | Path) -> Ablation:
    """Return a built-in ablation or that of a TOML file.

    Raises:
        UsageError: there is none of that name, or a key or value in it is wrong.
    """
    path = Path(name)
    names = ablation_names()
    if path.suffix != ".toml" and str(name) not in names:
        raise UsageError(
            f"no ablation is called {str(name)!r}{nearest(str(name), names)}; built in: {', '.join(names)}, "
            "or give the path of a .toml file."
        )
    file = (
        path if path.suffix == ".toml" else resources.files("counterpoint.recipes") / f"ablations/{name}.toml"
    )
    try:
        return Ablation.model_validate(tomllib.loads(file.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{name}: cannot be read as an ablation ({error}); correct it.") from error
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise UsageError(f"ablation {name}: {key}: {first['msg']}; correct it.") from None
