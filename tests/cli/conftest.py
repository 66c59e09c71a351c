import io
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import pytest

from counterpoint.cli.main import run
from samples import write_mind


@dataclass(frozen=True)
class Result:
    """How a command ended."""

    code: int
    out: str
    err: str


def invoke(*arguments: object) -> Result:
    """Run a command in this process as the shell would."""
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.object(sys, "argv", ["counterpoint", *map(str, arguments)]),
        redirect_stdout(out),
        redirect_stderr(err),
        pytest.raises(SystemExit) as stopped,
    ):
        run()
    return Result(int(stopped.value.code or 0), out.getvalue(), err.getvalue())


@pytest.fixture(scope="session")
def command() -> Callable[..., Result]:
    return invoke


@pytest.fixture(scope="session")
def tiny(tiny_encoder: Path) -> list[str]:
    """Settings for a run that takes a second."""
    settings = [
        f"encoder.name={tiny_encoder}",
        "training.epochs=2",
        "training.batch_size=4",
        "training.precision=fp32",
    ]
    return [part for setting in settings for part in ("--set", setting)]


@pytest.fixture(scope="session")
def trained(tiny: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on the little site; tests must not change it."""
    place = tmp_path_factory.mktemp("trained")
    data = write_mind(place / "site")
    result = invoke("train", "mtrec", "--data", data, "--out", place / "run", *tiny)
    assert result.code == 0, result.err
    return place / "run"
