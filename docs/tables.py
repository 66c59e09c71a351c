"""The tables of the README and the pages that are made from code and results: ``python -m docs.tables``.

Each stands between the lines ``<!-- NAME: made by python -m docs.tables -->`` and ``<!-- NAME: end -->``.
"""

import ast
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from counterpoint import workload
from counterpoint.metrics.evaluated import OPTIMUM
from counterpoint.runs import recipe as recipes
from counterpoint.runs.recipe import Recipe
from counterpoint.storage.files import read_json
from counterpoint.storage.formats import Named

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "counterpoint"
BEGIN, END = "<!-- {}: made by python -m docs.tables -->", "<!-- {}: end -->"


@dataclass(frozen=True)
class Row:
    """A row of the README's overview.

    Attributes:
        study: whose result it is, in ``experiments/results``.
        data: what the data is, in words.
        recipe: whose model stands for the workload.
    """

    study: str
    data: str
    recipe: str


OVERVIEW = (
    Row("mind", "News: a cut of MIND", "mtrec"),
    Row("ebnerd-without-text", "News: EB-NeRD demo, no texts", "ebnerd-clicks"),
    Row("shopping-ijcai15", "Shops: IJCAI-15", "metabalance"),
    Row("shopping-userbehavior", "Shops: UserBehavior-2017, no clicks", "metabalance"),
    Row("kuairand", "Views: a cut of KuaiRand", "gradcraft"),
    Row("sentences-seeds", "Sentences: SST, a tenth of Quora, STS", "sentences-cross"),
)
_METRICS = {"auc": "AUC", "ndcg@10": "nDCG@10", "overall": "mean of three tasks"}


class _Everything(tuple[str, ...]):
    """Columns among which every name is, to ask a format which it would read."""

    def __contains__(self, name: object) -> bool:
        return True


def main() -> None:
    """Write every table into its place."""
    for page, tables in pages().items():
        page.write_text(filled(page.read_text(encoding="utf-8"), tables), encoding="utf-8")


def pages() -> dict[Path, dict[str, str]]:
    """Return the tables of each page by their names."""
    made = {ROOT / "README.md": {"overview": overview()}, ROOT / "docs" / "house.md": {"rooms": rooms()}}
    for name in workload.names():
        made[ROOT / "docs" / f"{name}.md"] = {"formats": formats(name), "recipes": recipe_table(name)}
    return made


def filled(text: str, tables: Mapping[str, str]) -> str:
    """Return a page with these tables in place of those between their markers.

    Raises:
        ValueError: a table's markers are not there.
    """
    for name, table in tables.items():
        before, begin, rest = text.partition(BEGIN.format(name))
        _, end, after = rest.partition(END.format(name))
        if not (begin and end):
            raise ValueError(f"the markers of the table {name!r} are missing; put them back")
        text = f"{before}{begin}\n{table}\n{end}{after}"
    return text


def overview() -> str:
    """Return what one model of each workload reaches on real data, beside the strongest floor."""
    lines = []
    for row in OVERVIEW:
        result = read_json(ROOT / "experiments" / "results" / f"{row.study}.json")
        metric, found = result["metric"], result["recipes"][row.recipe]
        floors = {name: values[metric] for name, values in result["floors"].items() if name != OPTIMUM}
        strongest = max(floors, key=floors.__getitem__)
        reached = found["metrics"][metric]
        compared = sum(name in result["floors"][strongest] for name in found["metrics"])
        lines.append(
            [
                row.data,
                f"{result['scored']:,} {result['unit']}",
                _METRICS[metric],
                f"`{row.recipe}` {reached['mean']:.4f} ± {reached['sd']:.4f}",
                f"{strongest} {floors[strongest]:.4f}",
                _standing(reached["mean"] - floors[strongest], len(found["below a floor in"]), compared),
            ]
        )
    return table(["data", "tested on", "metric", "model", "best printed floor", "mean above it by"], lines)


def _standing(lead: float, below: int, metrics: int) -> str:
    if lead <= 0:
        return f"**below**, {lead:+.4f}"
    return f"{lead:+.4f}, not tested" + (f"; below in {below} of {metrics} metrics" if below else "")


def rooms() -> str:
    """Return the packages with the first sentence of each, as they lie in each other."""
    source = ROOT / "src" / "counterpoint"
    files = sorted(source.rglob("__init__.py"), key=lambda file: file.parent.parts)
    lines = []
    for file in files:
        told = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
        lines.append([f"`{file.parent.relative_to(source)}/`", told.partition("\n")[0]])
    return table(["room", "what is in it"], lines[1:])


def formats(name: str) -> str:
    """Return what a workload reads."""
    of_feedback = name == "feedback"
    header = ["format", "what it is", *(["user, item", "labels"] if of_feedback else []), "reader"]
    return table(header, (_format(name, each, of_feedback) for each in workload.formats(name)))


def _format(name: str, each: Named, of_feedback: bool) -> list[str]:
    module = import_module(f"counterpoint.{name}.data.formats.{each.name.replace('-', '_')}")
    first, *rest = inspect.getdoc(module).split("\n\n")  # type: ignore[union-attr]
    told = " ".join([first, *rest[:1]]).replace("``", "`").replace("\n", " ")
    file = f"`{Path(str(module.__file__)).relative_to(SOURCE)}`"
    return [f"`{each.name}`", told, *(_labels(each) if of_feedback else []), file]


def _labels(each: Any) -> list[str]:
    """Return whose views a format has, and its labels."""
    columns = each.columns(_Everything())
    labels = ", ".join(f"`{label}`" for label in each.labels(_Everything())) or "as the recipe says"
    return [", ".join(f"`{column}`" for column in (columns.user, columns.item) if column), labels]


def recipe_table(name: str) -> str:
    """Return the built-in recipes of a workload."""
    resolved = [workload.resolved(recipes.read_table(each), each) for each in recipes.builtin_names()]
    own = [recipe for recipe in resolved if recipe.workload == name]
    parts = _PARTS.get(name, {})
    header = ["recipe", *parts, "balanced by", "what it is"]
    lines = [
        [f"`{recipe.name}`", *(part(recipe) for part in parts.values()), _balanced(recipe), recipe.summary]
        for recipe in own
    ]
    return table(header, lines)


def _tasks(recipe: Any) -> str:
    return ", ".join(recipe.tasks)


_PARTS: Mapping[str, Mapping[str, Callable[[Any], str]]] = {
    "news": {
        "article": lambda recipe: ", ".join(recipe.articles.fields),
        "reader": lambda recipe: str(recipe.reader.kind),
        "tasks": _tasks,
    },
    "behaviors": {"tasks": _tasks},
    "sentences": {"tasks": _tasks},
}
"""What else a workload's recipes are told apart by."""


def _balanced(recipe: Recipe) -> str:
    return f"`{_called({'method': recipe.balance.method, **recipe.balance.options})}`"


def _called(balance: Mapping[str, Any]) -> str:
    """Return a method with its members, if it is a chain."""
    members = ", ".join(_called(value) for value in balance.values() if _is_method(value))
    return f"{balance['method']}({members})" if members else str(balance["method"])


def _is_method(value: Any) -> bool:
    return isinstance(value, Mapping) and "method" in value


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return lines of Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    escaped = ([cell.replace("|", "\\|") for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in escaped)


if __name__ == "__main__":
    main()
