"""The recipe: the full, typed description of a run, read from TOML and validated once."""

import tomllib
from importlib import resources
from pathlib import Path
from typing import Any, Literal, Self, TypeVar, get_args, get_origin

import tomli_w
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic import SerializerFunctionWrapHandler as Handler

from counterpoint.errors import UsageError, nearest


class Section(BaseModel):
    """A table of the recipe: unknown keys are refused, values do not change after reading."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        protected_namespaces=(),
        ser_json_inf_nan="constants",  # TOML has inf, which JSON has not
    )


class Balance(BaseModel):
    """How the tasks' gradients become one; every other key is an option of the method.

    The options are checked by `counterpoint.balance.make`, which knows them.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    method: str = "equal"

    @property
    def options(self) -> dict[str, Any]:
        """The method's own options."""
        return dict(self.model_extra or {})


class Training(Section):
    """The loop: the same for every workload."""

    epochs: int = Field(3, ge=1)
    batch_size: int = Field(16, ge=1, description="examples a step, over all processes")
    accumulate: int = Field(
        1, ge=1, description="shares of a step's examples that are passed one after another, to save memory"
    )
    optimizer: Literal["adam", "adamw", "adagrad", "rmsprop"] = "adam"
    learning_rate: float = Field(2e-5, gt=0, description="of the shared parameters")
    head_learning_rate: float | None = Field(None, gt=0, description="of all others; default: the same")
    weight_decay: float = Field(0.0, ge=0)
    warmup: float = Field(0.1, ge=0, lt=1, description="share of the steps with a rising rate")
    decay: Literal["linear", "none"] = Field("linear", description="of the rate after that: to 0, or not")
    clip_norm: float | None = Field(1.0, gt=0, description="largest norm of the whole gradient; inf: any")
    precision: Literal["auto", "bf16", "fp32"] = Field("auto", description="of the encoder alone")
    validate_every: int | None = Field(None, ge=1, description="steps; default: each epoch")
    checkpoint_every: int = Field(200, ge=1, description="steps; also at each epoch's end")
    patience: int | None = Field(3, ge=1, description="validations without progress before stopping")
    log_every: int = Field(
        1, ge=1, description="steps between lines of balance.jsonl; losses are means over ten times as many"
    )
    diagnose_every: int | None = Field(
        None, ge=1, description="steps between those in which every task's own gradient is looked at"
    )
    seed: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _divides(self) -> Self:
        if self.batch_size % self.accumulate:
            raise ValueError(f"accumulate must divide batch_size; {self.accumulate} of {self.batch_size}")
        return self


class Adapter(Section):
    """Low-rank adaptation of the pretrained encoder (paper 2, section 2.6; Hu et al. 2022)."""

    rank: int = Field(16, ge=1)
    alpha: float = Field(4.0, gt=0)
    rank_stabilised: bool = Field(False, description="scale by alpha/√rank instead of alpha/rank")
    targets: Literal["attention", "linear"] = Field(
        "attention", description="query and value projections, or every linear layer of the blocks"
    )
    dropout: float = Field(0.0, ge=0, lt=1)


class Range(Section):
    """Where `counterpoint tune` looks for a number: whole ones if both ends are."""

    low: int | float
    high: int | float
    log: bool = Field(False, description="evenly over the logarithms")
    step: int | float | None = Field(None, gt=0)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if not self.low < self.high:
            raise ValueError(f"low must be below high; {self.low} is not below {self.high}")
        if self.log and (self.low <= 0 or self.step is not None):
            raise ValueError("log needs a positive low and no step")
        return self


class Recipe(Section):
    """What every workload's recipe holds; a workload adds sections of its own."""

    name: str
    summary: str = ""
    workload: str
    balance: Balance = Balance()
    training: Training = Training()
    tune: dict[str, Range | list[Any]] = Field(
        {}, description="for `counterpoint tune`: a key's range {low, high, log, step}, or its choices"
    )

    @field_validator("tune", mode="before")
    @classmethod
    def _dotted(cls, given: Any) -> Any:
        """Accept ``training.epochs = …`` with and without quotes: in TOML the latter is a nested table."""
        return _flat(given) if isinstance(given, dict) else given

    @model_validator(mode="after")
    def _tunes_what_there_is(self) -> Self:
        for key, choices in self.tune.items():
            *place, last = key.split(".")
            known = _keys(type(self), place)
            # The options of a balancing method are not known here: whoever makes the method checks them.
            if last not in known and place[:1] != ["balance"]:
                raise ValueError(
                    f"tune: there is no key {key!r}{nearest(key, _dotted_keys(type(self)))} to search"
                )
            if choices == []:
                raise ValueError(f"tune: {key!r} has no choices; give some, or a range with low and high")
        return self

    @model_serializer(mode="wrap")
    def _without_an_empty_search(self, handler: Handler) -> dict[str, Any]:
        written: dict[str, Any] = handler(self)
        if not self.tune:
            written.pop("tune", None)
        return written


AnyRecipe = TypeVar("AnyRecipe", bound=Recipe)


def builtin_names(workload: str | None = None) -> list[str]:
    """Return the names of the built-in recipes, of one workload or of all."""
    folder = resources.files("counterpoint.recipes")
    names = sorted(
        entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml")
    )
    return [name for name in names if workload is None or read_table(name)["workload"] == workload]


def read_table(recipe: str | Path) -> dict[str, Any]:
    """Return the tables of a built-in recipe or of a TOML file, with what it ``extends`` filled in.

    Raises:
        UsageError: there is no such recipe, it is not TOML, or it extends itself.
    """
    return _read_table(recipe, ())


def _read_table(recipe: str | Path, below: tuple[str, ...]) -> dict[str, Any]:
    """Return the tables of a recipe that those ``below`` extend."""
    text, origin = _source(str(recipe))
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{origin}: not valid TOML ({error}); correct that line.") from error
    parent = table.pop("extends", None)
    table.setdefault("name", Path(str(recipe)).stem)
    if parent is None:
        return table
    beside = Path(str(recipe)).parent / str(parent)
    above = str(beside if str(parent).endswith(".toml") else parent)
    if above in (*below, str(recipe)):
        raise UsageError(f"{origin}: extends {parent!r}, which extends it in turn; break the circle.")
    return _merged(_read_table(above, (*below, str(recipe))), table)


def override(table: dict[str, Any], settings: list[str]) -> dict[str, Any]:
    """Return ``table`` with settings such as ``training.epochs=2`` applied.

    A value is read as TOML where it is valid TOML, otherwise as text, so quotes are optional.
    """
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key.strip():
            raise UsageError(f"--set {setting}: write it as key=value, for example training.epochs=2.")
        try:
            parsed: Any = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            parsed = value
        nested: Any = parsed
        for part in reversed(key.strip().split(".")):
            nested = {part: nested}
        table = _merged(table, nested)
    return table


def validate(table: dict[str, Any], kind: type[AnyRecipe], origin: str | Path) -> AnyRecipe:
    """Return ``table`` as a recipe of ``kind``; a wrong key is told with the nearest right one."""
    try:
        return kind.model_validate(table)
    except ValidationError as error:
        first = error.errors()[0]
        place = [str(part) for part in first["loc"]]
        key = ".".join(place)
        if first["type"] == "extra_forbidden":
            known = _keys(kind, place[:-1])
            raise UsageError(
                f"recipe {origin}: unknown key {key!r}{nearest(place[-1], known)}; known here: "
                f"{', '.join(sorted(known))}."
            ) from None
        message = first["msg"].removeprefix("Value error, ")
        got = f"{key}: {message} (got {first['input']!r})" if key else message
        raise UsageError(f"recipe {origin}: {got}; correct it.") from None


def to_toml(recipe: Recipe) -> str:
    """Return the resolved recipe as TOML; keys without a value are left out."""
    return tomli_w.dumps(recipe.model_dump(mode="json", exclude_none=True))


def _source(recipe: str) -> tuple[str, str]:
    """Return the text of a recipe and where it came from."""
    path = Path(recipe)
    if path.suffix == ".toml":
        try:
            return path.read_text(encoding="utf-8"), str(path)
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{path}: cannot be read as a recipe ({error}); check the path.") from error
    names = builtin_names()
    if recipe not in names:
        raise UsageError(
            f"no recipe is called {recipe!r}{nearest(recipe, names)}; built in: {', '.join(names)}, "
            "or give the path of a .toml file."
        )
    return (resources.files("counterpoint.recipes") / f"{recipe}.toml").read_text(encoding="utf-8"), recipe


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Return the tables of ``below`` with those of ``above`` laid over them."""
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        # A method brings its own options, and a range its own ends: what stood below is not mixed in.
        replaces = isinstance(value, dict) and ("method" in value or {"low", "high"} <= value.keys())
        merge = isinstance(old, dict) and isinstance(value, dict) and not replaces
        merged[key] = _merged(old, value) if merge else value  # type: ignore[arg-type]
    return merged


def _keys(kind: type[BaseModel], place: list[str]) -> list[str]:
    """Return the keys that are known at ``place``."""
    parts = iter(place)
    for part in parts:
        section = _section(kind, part)
        if section is None or (_is_named(kind, part) and next(parts, None) is None):
            return []
        kind = section
    return list(kind.model_fields)


def _dotted_keys(kind: type[BaseModel]) -> list[str]:
    """Return every key of the recipe as ``--set`` takes it."""
    keys = []
    for name in kind.model_fields:
        section = _section(kind, name)
        alone = section is None or _is_named(kind, name)
        keys += [name] if section is None or alone else [f"{name}.{key}" for key in _dotted_keys(section)]
    return keys


def _section(kind: type[BaseModel], name: str) -> type[BaseModel] | None:
    """Return the section called ``name``, optional ones included; nothing if it is no section."""
    field = kind.model_fields.get(name)
    kinds = () if field is None else (field.annotation, *get_args(field.annotation))
    return next((each for each in kinds if isinstance(each, type) and issubclass(each, BaseModel)), None)


def _is_named(kind: type[BaseModel], name: str) -> bool:
    """Return whether ``name`` holds sections by names of the user's own."""
    field = kind.model_fields.get(name)
    return field is not None and get_origin(field.annotation) is dict


def _flat(nested: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested tables as one table with dotted keys; ranges stay whole."""
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        if isinstance(value, dict) and not {"low", "high"} & value.keys():
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
