"""Ablations: comparisons that a paper makes, each one TOML file."""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, FiniteFloat, ValidationError, model_validator

from counterpoint.errors import UsageError, nearest
from counterpoint.runs.recipe import Section

Value = bool | int | FiniteFloat | str | list[bool | int | FiniteFloat | str]
"""What a key can be swept over."""


class Figure(Section):
    """A figure of the paper, drawn from the runs' logs or results."""

    title: str
    draws: Literal["cosine", "losses", "target loss", "validation", "sweep"] = Field(
        description="the target's gradient against the auxiliaries', all losses or the target's, the "
        "validation metrics, or the results against the values of the sweep"
    )
    recipes: tuple[str, ...] = Field((), description="whose lines are drawn; by default all recipes'")


class Row(Section):
    """A recipe with settings of its own."""

    label: str = Field(min_length=1)
    recipe: str
    settings: tuple[str, ...] = Field((), description="key=value, over those for all")


class Sweep(Section):
    """One key of one recipe, and the values to try."""

    key: str = Field(pattern=r"^[^\s=]+$", description="as training.epochs or balance.relax")
    values: tuple[Value, ...] = Field(min_length=2)

    @classmethod
    def of(cls, text: str) -> Self:
        """Read ``KEY=VALUE,VALUE…``; values are TOML where they are valid TOML, otherwise texts.

        Raises:
            UsageError: it is not written so, or has fewer than two values.
        """
        key, _, listed = text.partition("=")
        try:
            values = tomllib.loads(f"values = [{listed}]")["values"]
        except tomllib.TOMLDecodeError:
            values = [_read(each.strip()) for each in listed.split(",") if each.strip()]
        try:
            return cls(key=key.strip(), values=values)
        except ValidationError:
            raise UsageError(
                f"--sweep {text}: write it as key=value,value with two values or more, "
                "for example balance.relax=0.0,0.5,1.0."
            ) from None

    def setting(self, value: Value) -> str:
        """Return the setting that gives a recipe one of the values."""
        return f"{self.key}={json.dumps(value, ensure_ascii=False)}"


@dataclass(frozen=True)
class Swept:
    """The values of a key that recipes of a comparison differ in.

    Attributes:
        key: of the recipe.
        values: by the label of the recipe.
    """

    key: str
    values: Mapping[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """Return the sweep as JSON holds it."""
        return {"key": self.key, "values": dict(self.values)}


class Ablation(Section):
    """Recipes that differ in one thing each, and the baseline they are set against."""

    title: str
    source: str = Field("", description="the paper's table or figure")
    baseline: str | None = Field(None, description="a recipe or a row's label; by default the first")
    recipes: tuple[str, ...] = ()
    rows: tuple[Row, ...] = Field((), description="recipes with settings of their own, after the others")
    sweep: Sweep | None = Field(None, description="values to try on the one recipe")
    settings: tuple[str, ...] = Field((), description="key=value, for all of the recipes")
    figures: tuple[Figure, ...] = ()

    @model_validator(mode="after")
    def _compares(self) -> Self:
        if self.sweep and (len(self.recipes) != 1 or self.rows):
            raise ValueError("a sweep needs exactly one recipe and no rows")
        if not self.sweep and len(self.recipes) + len(self.rows) < 2:
            raise ValueError("name two recipes or rows, or one recipe and a sweep")
        if not self.sweep and any(figure.draws == "sweep" for figure in self.figures):
            raise ValueError("a figure draws a sweep, but there is none")
        return self


def written(value: Any) -> str:
    """Return a value as a label shows it: as in TOML, but a text without quotes."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


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
        message = first["msg"].removeprefix("Value error, ")
        raise UsageError(f"ablation {name}: {f'{key}: ' * bool(key)}{message}; correct it.") from None


def _read(value: str) -> Any:
    try:
        return tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return value
