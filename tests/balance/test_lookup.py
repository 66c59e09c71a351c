"""Methods are found by themselves: a file in the folder, and a class in somebody else's package."""

import doctest
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from counterpoint import balance
from counterpoint.balance import documentation as catalogue
from counterpoint.balance import engine
from counterpoint.balance import lookup as registry
from counterpoint.balance.lookup import find
from methods import UNIT, write_theirs

ROOT = Path(__file__).parents[2]


@pytest.fixture
def theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The dotted path of a method in a package of somebody else's."""
    write_theirs(tmp_path)
    tmp_path.joinpath("theirs", "broken.py").write_text("import nowhere.to_be_found\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield "theirs.unit:Unit"
    for name in [name for name in sys.modules if name.partition(".")[0] == "theirs"]:
        del sys.modules[name]


def test_a_method_of_somebody_else_s_goes_by_its_path(theirs: str) -> None:
    gradients = torch.tensor([[3.0, 0.0], [0.0, 4.0]])
    expected = torch.full((2,), 12.5**0.5)
    torch.testing.assert_close(balance.make(theirs).merge(gradients), expected)
    balancer = balance.make(theirs, granularity="tensor")
    torch.testing.assert_close(balancer.merge(gradients, blocks=[(0, 1), (1, 2)]), torch.tensor([3.0, 4.0]))
    first, second = {"method": "fixed", "weights": {"0": 2, "1": 1}}, {"method": theirs}
    chained = balance.make("chain", first=first, second=second)
    torch.testing.assert_close(chained.merge(gradients), torch.full((2,), 26**0.5))
    assert theirs not in balance.available()


def test_it_has_its_line_in_the_table(theirs: str) -> None:
    page = catalogue.markdown([find(theirs)])
    assert "## Directions\n" in page
    assert page.splitlines()[-1] == (
        f"| `{theirs}` | Brings every gradient to the root mean square of their lengths: g = n Σ g_k / ‖g_k‖."
        " |  |  |  | K | `scales`; `symmetric`; `alone` | `K` | nowhere yet, made up for the tests |"
    )


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("theirs.units:Unit", "in a module 'theirs.units', which cannot be imported (ModuleNotFoundError: "),
        ("theirs.broken:Unit", "which cannot be imported (ModuleNotFoundError: No module named 'nowhere')."),
        ("theirs.unit:Units", "in 'theirs.unit', which has no 'Units' (did you mean 'Unit'?)."),
        ("theirs.unit:Step", "'theirs.unit:Step' is no balancing method: that is a class derived from "),
        ("theirs.unit:np", "'theirs.unit:np' is no balancing method"),
    ],
)
def test_what_is_missing_is_said(theirs: str, path: str, says: str) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]*$") as raised:
        balance.make(path)
    assert says in str(raised.value)
    with pytest.raises(TypeError, match=f"'{theirs}' has no option 'taus'"):
        balance.make(theirs, taus=1)


@pytest.mark.slow
@pytest.mark.parametrize(("promised", "code"), [("", 0), ('"agrees", ', 1)])
def test_its_promises_are_held_against_it(theirs: str, tmp_path: Path, promised: str, code: int) -> None:
    file = tmp_path / "theirs" / "unit.py"
    file.write_text(file.read_text().replace('("scales", ', f'({promised}"scales", '))
    suite = (
        "tests/properties/test_promises.py",
        "--method",
        theirs,
        "-k",
        "(scales or agrees or long) and Unit",
    )
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *suite],
        cwd=ROOT,
        env={
            "PATH": "",
            "PYTHONPATH": f"{ROOT / 'src'}:{tmp_path}",
            "HYPOTHESIS_STORAGE_DIRECTORY": str(tmp_path),
        },
        capture_output=True,
        text=True,
    )
    assert run.returncode == code, run.stdout
    assert ("2 passed" if code == 0 else "1 failed, 2 passed") in run.stdout


def test_a_file_in_the_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = importlib.import_module("counterpoint.balance.methods")
    tmp_path.joinpath("unit.py").write_text(UNIT.format(name='name = "unit"'))
    monkeypatch.setattr(folder, "__path__", [*folder.__path__, str(tmp_path)])
    monkeypatch.delitem(sys.modules, "counterpoint.balance.methods.unit", raising=False)
    assert "unit" in balance.available()
    assert repr(balance.make("unit")) == "Unit()"
    assert "| `unit` | Brings every gradient to " in catalogue.markdown()
    assert "from counterpoint.balance.methods.unit import Unit as Unit\n" in catalogue.stub()
    tmp_path.joinpath("again.py").write_text(UNIT.format(name='name = "unit"'))
    with pytest.raises(
        ValueError, match=r"methods\.unit and .*methods\.again both have|both have a method 'unit'"
    ):
        balance.available()


def test_all_methods_are_exported_by_their_classes() -> None:
    for name in balance.available():
        method = find(name)
        assert getattr(balance, method.__name__) is method
        assert method.__name__ in balance.__all__
    assert len(set(balance.__all__)) == len(balance.__all__) == len(balance.available()) + 10


def test_what_is_made_from_the_classes_is_up_to_date() -> None:
    """Otherwise: python -m counterpoint.balance.documentation docs/methods.md."""
    page = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
    assert catalogue.filled(page) == page
    stub = (ROOT / "src/counterpoint/balance/methods/__init__.pyi").read_text(encoding="utf-8")
    assert catalogue.stub() == stub


@pytest.mark.parametrize("module", [registry, engine])
def test_examples_in_docstrings(module: Any) -> None:
    results = doctest.testmod(module)
    assert results.attempted > 2
    assert not results.failed
