"""The command ``counterpoint``."""

import sys
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from counterpoint.cli.compare import compare
from counterpoint.cli.embed import embed
from counterpoint.cli.evaluate import evaluate
from counterpoint.cli.export import export
from counterpoint.cli.formats import formats
from counterpoint.cli.prepare import prepare
from counterpoint.cli.recipes import recipes
from counterpoint.cli.recommend import recommend
from counterpoint.cli.report import report
from counterpoint.cli.simulate import simulate
from counterpoint.cli.submit import submit
from counterpoint.cli.train import train
from counterpoint.cli.tune import tune
from counterpoint.errors import ArgumentError, CounterpointError


class _Commands(TyperGroup):
    """The commands; one that is interrupted says what became of its files."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise CounterpointError("interrupted; nothing half-written was left behind.") from None


app = typer.Typer(
    cls=_Commands,
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Train recommenders on several tasks at once without the tasks drowning each other out.",
    epilog="First steps: counterpoint simulate news --out demo-data, "
    "then counterpoint train mtrec --data demo-data",
)
for command in (
    prepare,
    train,
    evaluate,
    submit,
    recommend,
    embed,
    export,
    compare,
    tune,
    report,
    recipes,
    formats,
):
    app.command()(command)
app.add_typer(simulate, name="simulate")


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(version("counterpoint"))
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and stop."),
    ] = False,
) -> None:
    """Take the options of all commands; `run` itself looks for ``--debug``, wherever it stands."""


def run() -> NoReturn:
    """Run a command; an error is one sentence, and a traceback too where ``--debug`` asks for it."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    debug = len(arguments) < len(sys.argv) - 1
    try:
        app(arguments)
    except ArgumentError as error:
        if debug:
            raise
        _fail(f"--{error.argument.replace('_', '-')}: {error.problem}.", error.exit_code)
    except CounterpointError as error:
        if debug:
            raise
        _fail(str(error), error.exit_code)
    except Exception as error:
        if debug:
            raise
        _fail(
            f"unexpected {type(error).__name__} ({error}); run again with --debug and report what it shows.",
            1,
        )
    sys.exit(0)


def _fail(message: str, code: int) -> NoReturn:
    """Print a message on one line and stop."""
    print(f"counterpoint: {' '.join(message.splitlines())}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    run()
