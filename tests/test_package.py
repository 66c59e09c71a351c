"""The package's public names."""

from importlib import import_module
from pkgutil import iter_modules

import pytest

import counterpoint


def test_no_room_hides_a_function_of_its_name():
    # Importing a room makes it an attribute of the package, whatever `__getattr__` would have returned.
    assert not {room.name for room in iter_modules(counterpoint.__path__)} & set(counterpoint.__all__)


@pytest.mark.parametrize("name", counterpoint.__all__)
def test_every_function_stays_callable_whatever_was_imported(name):
    import_module("counterpoint.reporting.document")
    import_module("counterpoint.studies.experiment")
    assert callable(getattr(counterpoint, name))


def test_other_names_are_refused():
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        counterpoint.trian  # noqa: B018
