"""The command ``counterpoint``."""

import os
import sys
from typing import Annotated, NoReturn

import typer

from counterpoint.cli.evaluate import evaluate
from counterpoint.cli.prepare import prepare
from counterpoint.cli.recipes import recipes
from counterpoint.cli.recommend import recommend
from counterpoint.cli.report import report
from counterpoint.cli.simulate import simulate
from counterpoint.cli.submit import submit
from counterpoint.cli.train import train
from counterpoint.errors import CounterpointError

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Train recommenders on several tasks at once without the tasks drowning each other out.",
    epilog="First steps: counterpoint simulate news --out demo-data, then counterpoint train mtrec --data demo-data",
)
for command in (prepare, train, evaluate, submit, recommend, report, recipes):
    app.command()(command)
app.add_typer(simulate, name="simulate")


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[bool, typer.Option("--version", help="Show the version and stop.")] = False,
) -> None:
    if version:
        from importlib.metadata import version as installed

        print(installed("counterpoint"))
        raise typer.Exit
    if debug:
        os.environ["COUNTERPOINT_DEBUG"] = "1"


def run() -> NoReturn:
    """Run a command; an error that the user can put right is one sentence."""
    try:
        app()
    except CounterpointError as error:
        if os.environ.get("COUNTERPOINT_DEBUG"):
            raise
        print(f"counterpoint: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    sys.exit(0)


if __name__ == "__main__":
    run()
