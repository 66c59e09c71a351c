"""Methods by name: those in `methods/`, where a file is found by itself, and others by their dotted path."""

import inspect
from collections.abc import Mapping
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType
from typing import Any

from counterpoint.balance import checks
from counterpoint.balance.engine import Balancer

_FOLDER = "counterpoint.balance.methods"


def classes_in(folder: ModuleType) -> dict[str, type[Balancer]]:
    """Return the methods in a package, by name: all classes that have a name of their own."""
    found: dict[str, type[Balancer]] = {}
    for file in iter_modules(folder.__path__):
        module = import_module(f"{folder.__name__}.{file.name}")
        for each in vars(module).values():
            is_method = isinstance(each, type) and issubclass(each, Balancer) and "name" in vars(each)
            if not is_method or each.__module__ != module.__name__:
                continue
            if each.name in found:
                raise ValueError(
                    f"{each.__module__} and {found[each.name].__module__} both have a method {each.name!r}."
                )
            found[each.name] = each
    return dict(sorted(found.items()))


def available() -> tuple[str, ...]:
    """Return the names `make` knows, in alphabetical order."""
    return tuple(classes_in(import_module(_FOLDER)))


def find(name: str) -> type[Balancer]:
    """Return the class of a method: one of `available()`, or any by its dotted path `"theirs.module:Class"`.

    Raises:
        ValueError: there is none, or what is there is no balancing method.
    """
    if ":" in name:
        return _theirs(name)
    methods = classes_in(import_module(_FOLDER))
    if name not in methods:
        raise ValueError(
            f"There is no method {name!r}{checks.near(name, methods)}; there are {', '.join(methods)}."
        )
    return methods[name]


def make(name: str, **options: Any) -> Balancer:
    """Return a new balancer by name: `make("mtrec", scale=0.3)` is `MTRec(scale=0.3)`.

        >>> from counterpoint import balance
        >>> balance.make("mtrec", scale=0.5)
        MTRec(scale=0.5, project='both')
        >>> balance.make("chain", first={"method": "metabalance"}, second={"method": "grad_surgery"})
        chain(MetaBalance(strategy='C', relax=0.7, beta=0.9), GradSurgery())

    A method that stands elsewhere goes by its dotted path, `make("theirs.module:Class", …)`; a member of a
    chain may be a table, as in a recipe.

    Raises:
        ValueError: an unknown name, or an option out of range.
        TypeError: an option that the method does not have, or lacks.
    """
    method = find(name)
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
    return method(**{option: _member(value) for option, value in options.items()})


def _theirs(path: str) -> type[Balancer]:
    """Return a class by its dotted path."""
    module, _, attribute = path.partition(":")
    try:
        found = import_module(module)
    except Exception as error:  # whatever their module does when it is imported
        what = f"{type(error).__name__}: {error}".rstrip(".")
        raise ValueError(
            f"The method {path!r} is to be in a module {module!r}, which cannot be imported ({what})."
        ) from error
    method = getattr(found, attribute, None)
    if method is None:
        known = [key for key, each in vars(found).items() if isinstance(each, type)]
        raise ValueError(
            f"The method {path!r} is to be in {module!r}, which has no {attribute!r}"
            f"{checks.near(attribute, known)}."
        )
    if not (isinstance(method, type) and issubclass(method, Balancer)):
        raise ValueError(
            f"{path!r} is no balancing method: that is a class derived from counterpoint.balance.Balancer."
        )
    return method


def _member(value: Any) -> Any:
    """Return the balancer that a table with a method describes; anything else as it is."""
    if not isinstance(value, Mapping) or not isinstance(value.get("method"), str):
        return value
    return make(value["method"], **{key: each for key, each in value.items() if key != "method"})
