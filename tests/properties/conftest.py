"""The methods that the tests of promises run over: all of the package, or some of somebody else's.

pytest tests/properties --method theirs.module:Class
"""

import pytest

from counterpoint import balance
from counterpoint.balance.lookup import find


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--method", action="append", default=[], help="a method by its dotted path, instead of the package's"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "every_method(but=CLASS): run for every method, by name")
    config.addinivalue_line("markers", "promise(word): run for every method that promises this, by name")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    names = metafunc.config.getoption("method", []) or balance.available()
    every = metafunc.definition.get_closest_marker("every_method")
    promise = metafunc.definition.get_closest_marker("promise")
    if promise is not None:
        names = [name for name in names if promise.args[0] in find(name).promises]
    elif every is not None:
        names = [name for name in names if not issubclass(find(name), every.kwargs.get("but", ()))]
    if every is not None or promise is not None:
        metafunc.parametrize("name", names)
