"""A run's files are named in one module; everything else asks it."""

import ast
from pathlib import Path

import counterpoint
from counterpoint.runs.folder import ComparisonFolder, ModelFolder, RunFolder

SOURCE = Path(counterpoint.__file__).parent
NAMES = {
    *("recipe.toml", "run.json", "metrics.jsonl", "balance.jsonl", "checkpoints", "report.html"),
    *("model.safetensors", "model.json", "comparison.json", "comparison.md"),
}


def test_the_names_are_those_that_users_know():
    files, model = RunFolder(Path("run")), ModelFolder(Path("run/model"))
    comparison = ComparisonFolder(Path("compare"))
    told = [
        *(files.recipe, files.facts, files.metrics, files.balance, files.checkpoints, files.report),
        *(model.weights, model.description, comparison.record, comparison.markdown),
    ]
    assert {path.name for path in told} == NAMES
    assert files.model == model
    assert files.evaluation("test").name == "evaluation-test.json"
    assert files.evaluated_units("test").name == "evaluation-test.parquet"
    assert comparison.run("mtrec", 2) == Path("compare/mtrec-seed2")


def test_no_other_module_names_them():
    found = [
        f"{file.relative_to(SOURCE)}:{node.lineno}: {node.value}"
        for file in SOURCE.rglob("*.py")
        if file != SOURCE / "runs" / "folder.py"
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant)
        and (node.value in NAMES or str(node.value).startswith("evaluation-"))
    ]
    assert found == []
