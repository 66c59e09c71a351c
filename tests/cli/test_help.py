import subprocess
import sys
from importlib.metadata import version

import pytest
import typer

from counterpoint import workload
from counterpoint.cli.main import app
from counterpoint.runs.recipe import builtin_names

COMMANDS = typer.main.get_command(app).commands
NAMES = [
    f"{name} {below}".strip()
    for name, each in COMMANDS.items()
    for below in getattr(each, "commands", {"": each})
]


@pytest.mark.parametrize("name", NAMES)
def test_every_command_has_help_with_an_example(name, command):
    result = command(*name.split(), "--help")
    assert (result.code, result.err) == (0, "")
    assert f"counterpoint {name} [OPTIONS]" in result.out
    assert f"Example: counterpoint {name}" in result.out


def test_commands_below_commands_are_among_them():
    assert {"train", "recipes", "simulate news", "simulate feedback"} < set(NAMES)


def test_the_list_of_commands(command):
    listed = command("--help").out
    assert all(f"  {name} " in listed for name in COMMANDS)
    below = command("simulate", "--help").out
    assert all(f"  {name} " in below for name in COMMANDS["simulate"].commands)
    assert "First steps: counterpoint simulate news" in listed


def test_version(command):
    result = command("--version")
    assert (result.code, result.out) == (0, f"{version('counterpoint')}\n")


def test_every_format_is_in_the_help(command):
    text = "".join(command("prepare", "--help").out.split())
    listed = command("formats").out
    for name in workload.names():
        assert f"{name}\n" in listed
        for each in workload.formats(name):
            assert each.name in text
            assert any(line.split(maxsplit=1) == [each.name, each.summary] for line in listed.splitlines())


def test_help_of_compare_tells_the_metric_of_every_workload(command):
    assert "the workload's first, as auc or ndcg@10" in " ".join(command("compare", "--help").out.split())


def test_help_of_prepare_shows_rows_of_both_files(command):
    text = command("prepare", "--help").out
    assert "articles.csv" in text
    assert "  1,r1,2026-03-01T08:15:00,a1,a2 a3,a2\n" in text


@pytest.mark.parametrize(
    "arguments",
    [("trian",), ("train",), ("train", "mtrec"), ("recommend",), ("prepare", "x", "--on-bad-row", "eat")],
)
def test_wrong_use_exits_with_2(arguments, command):
    result = command(*arguments)
    assert result.code == 2
    assert "Traceback" not in result.err


def test_the_commands_come_without_heavy_imports():
    """Importing PyTorch takes seconds, and ``--help`` must not wait for it."""
    heavy = "{'torch', 'polars', 'transformers', 'numpy', 'pydantic'}"
    code = f"import sys, counterpoint.cli.main; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_recipes(command):
    listed = command("recipes")
    assert listed.code == 0
    assert [line.split()[0] for line in listed.out.splitlines()] == builtin_names()
    printed = command("recipes", "mtrec")
    assert 'name = "mtrec"' in printed.out
    assert "max_history = 50" in printed.out
    assert command("recipes", "mtrek").code == 2
