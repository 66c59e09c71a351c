"""The raw formats of a workload: one object in one file each, found by the file."""

from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pkgutil import iter_modules
from typing import Generic, Protocol, TypeVar

from counterpoint.errors import ArgumentError, nearest


class Named(Protocol):
    """What every workload's formats have in common."""

    @property
    def name(self) -> str:
        """What ``--format`` calls it: its file's name, with dashes for underscores."""
        ...

    @property
    def summary(self) -> str:
        """What it is and by which files it is recognised, in one line for lists of formats."""
        ...

    @property
    def own(self) -> bool:
        """Whether it is for logs of one's own, rather than for a data set as it is published."""
        ...


AnyFormat = TypeVar("AnyFormat", bound=Named, covariant=True)


class Formats(Generic[AnyFormat]):
    """The formats in a package: every module of it that has a ``FORMAT``, named as its file.

    Args:
        package: where the modules stand.
        kind: what each ``FORMAT`` is.
    """

    def __init__(self, package: str, kind: type[AnyFormat]) -> None:
        self._package, self._kind = package, kind

    @property
    def names(self) -> tuple[str, ...]:
        """The names in alphabetical order, without reading the modules."""
        spec = find_spec(self._package)
        places = list(spec.submodule_search_locations or ()) if spec is not None else []
        return tuple(sorted(found.name.replace("_", "-") for found in iter_modules(places)))

    def __iter__(self) -> Iterator[AnyFormat]:
        """Yield those of published data sets by their names, then those for logs of one's own."""
        return iter(sorted(map(self.named, self.names), key=_is_own))

    def named(self, name: str) -> AnyFormat:
        """Return a format by its name, or one of somebody else's package as ``their.module:OBJECT``.

        Raises:
            UsageError: there is none, or what is there is no format of this workload.
        """
        if ":" in name:
            module, _, attribute = name.partition(":")
        elif name in self.names:
            module, attribute = f"{self._package}.{name.replace('-', '_')}", "FORMAT"
        else:
            raise ArgumentError(
                "format",
                f"no format is called {name!r}{nearest(name, self.names)}; known: {', '.join(self.names)}, "
                "or one of your own as module:OBJECT",
            )
        try:
            found = getattr(import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            raise ArgumentError("format", f"{name} cannot be imported ({error}); check its name") from error
        if not isinstance(found, self._kind):
            kind = f"{self._kind.__module__}.{self._kind.__name__}"
            raise ArgumentError("format", f"{name} is no {kind}; make it one")
        return found

    def asked(self, name: str | None) -> list[AnyFormat]:
        """Return the one format of a name, or all where none is asked for."""
        return list(self) if name is None else [self.named(name)]

    def __contains__(self, name: str) -> bool:
        return name in self.names


def _is_own(form: Named) -> bool:
    return form.own
