"""The tables of README and pages are those that code and results make, and the pages name what there is."""

import re
from pathlib import Path

import pytest
from docs import tables
from experiments import gains

from counterpoint import workload
from counterpoint.runs import ablation
from counterpoint.runs import recipe as recipes
from counterpoint.storage.files import read_json

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
SOURCE = ROOT / "src" / "counterpoint"


@pytest.fixture(scope="module")
def made() -> dict[Path, dict[str, str]]:
    return tables.pages()


def test_the_tables_are_up_to_date(made: dict[Path, dict[str, str]]) -> None:
    for page, of_page in made.items():
        text = page.read_text(encoding="utf-8")
        assert text == tables.filled(text, of_page), f"{page}: run python -m docs.tables"


def test_the_figure_is_up_to_date() -> None:
    assert gains.FIGURE.read_text(encoding="utf-8") == gains.svg(), "run python -m experiments.gains"


def test_the_overview_sets_a_model_beside_the_strongest_floor_and_claims_no_more_than_a_mean() -> None:
    lines = tables.overview().splitlines()[2:]
    assert len(lines) == len(tables.OVERVIEW)
    for row, line in zip(tables.OVERVIEW, lines, strict=True):
        result = read_json(ROOT / "experiments" / "results" / f"{row.study}.json")
        assert not result["simulated"]
        assert len(result["recipes"][row.recipe]["seeds"]) >= 3
        metric = result["metric"]
        reached = result["recipes"][row.recipe]["metrics"][metric]["mean"]
        best = max(values[metric] for values in result["floors"].values())
        assert f"{reached:.4f}" in line
        assert f"{best:.4f}" in line
        assert ("**below**" in line) == (reached <= best)
        assert f"{reached - best:+.4f}" in line
        assert ("not tested" in line) == (reached > best)


def test_a_missing_marker_is_told() -> None:
    with pytest.raises(ValueError, match="'rooms'"):
        tables.filled("# A page", {"rooms": "| room |"})


def test_every_recipe_stands_on_a_page_of_its_workload(made: dict[Path, dict[str, str]]) -> None:
    pages = {path.stem: of_page["recipes"] for path, of_page in made.items() if "recipes" in of_page}
    named = [name for table in pages.values() for name in re.findall(r"^\| `([^`]+)`", table, re.MULTILINE)]
    assert sorted(named) == sorted(recipes.builtin_names())
    assert "| `mtrec` | title | additive | click, category, entities | `mtrec` |" in pages["news"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_name_recipes_that_there_are(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    commands = re.findall(
        r"counterpoint (?:train|tune|compare)((?: [a-z][\w.-]*)+)(?: --|`|$)", text, re.MULTILINE
    )
    named = {name for names in commands for name in names.split() if not name.endswith(".toml")}
    named.update(re.findall(r"(?:--baseline |--recipe |extends = \")([a-z][\w-]*)(?!\.toml)\b", text))
    assert named - {"mine"} <= {*recipes.builtin_names()}
    assert {*re.findall(r"--ablation ([a-z][\w-]*)", text)} <= {*ablation.ablation_names()}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_and_modules_that_a_page_names_are_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for name in re.findall(r"`((?:\w+/)+[\w.]+\.py)`", text):
        each = [name.replace("WORKLOAD", own) for own in workload.names()]
        assert all((ROOT / file).exists() or (SOURCE / file).exists() for file in each), name
    for name in re.findall(r"`counterpoint\.([a-z_.]+)`", text):
        place = SOURCE.joinpath(*name.split("."))
        assert place.is_dir() or place.with_suffix(".py").exists() or _defines(place.parent, place.name), name


def _defines(module: Path, name: str) -> bool:
    file = module.with_suffix(".py") if module != SOURCE else SOURCE / "__init__.py"
    return file.exists() and name in file.read_text(encoding="utf-8")


def test_links_of_the_readme_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert len(links) > 10
    assert [link for link in links if not (ROOT / link).exists()] == []
