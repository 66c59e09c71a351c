"""Preparing 150,000 behaviours rows, against a pandas loop; memory against the size of the file."""

import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from benchmarks.measure import Ratio
from benchmarks.synthetic import write_mind

ROWS, ARTICLES = 150_000, 20_000

_CHILD = """
import sys
from pathlib import Path
import counterpoint.news.data.prepare, torch, polars, numpy
from counterpoint.news.data.impressions import ImpressionWriter
from counterpoint.news.data.formats.mind import FORMAT
from counterpoint.storage.rows import BadRows
from counterpoint.progress import silent
from counterpoint.training.memory import peak_megabytes
folder = Path(sys.argv[1]); (folder / "out" / "arrays").mkdir(parents=True)
import time; start = time.perf_counter()
news = (folder / "news.tsv").open(encoding="utf-8")
ids = {line.split("\\t", 1)[0]: row for row, line in enumerate(news, 1)}
bad = BadRows("stop", folder / "bad")
writer = ImpressionWriter(folder / "out", ids, bad)
for block in FORMAT.impressions(folder / sys.argv[2], bad, silent, labelled=True):
    writer.add(0, block)
writer.close()
print(time.perf_counter() - start, peak_megabytes())
"""


def run() -> list[Ratio]:
    """Return the ratio of the times, and that of peak memory (imports included) for the file and a third."""
    with TemporaryDirectory(prefix="counterpoint-benchmark-") as name:
        folder = Path(name)
        write_mind(folder, ARTICLES, ROWS)
        with (
            (folder / "behaviors.tsv").open(encoding="utf-8") as whole,
            (folder / "third.tsv").open("w") as third,
        ):
            third.writelines(line for number, line in zip(range(ROWS // 3), whole, strict=False))
        ours, memory = _prepared(folder, "behaviors.tsv")
        _, memory_of_third = _prepared(folder, "third.tsv")
        start = time.perf_counter()
        _pandas(folder)
        loop = time.perf_counter() - start
    return [
        Ratio("preparing 150,000 behaviours rows", "pandas itertuples", loop / ours, 5),
        Ratio(
            "peak memory for three times the rows",
            "a third of the file",
            memory / memory_of_third,
            1.5,
            at_least=False,
        ),
    ]


def _prepared(folder: Path, file: str) -> tuple[float, float]:
    result = subprocess.run(
        [sys.executable, "-c", _CHILD, str(folder), file], capture_output=True, text=True, check=True
    )
    for path in (folder / "out").rglob("*"):
        if path.is_file():
            path.unlink()
    for path in sorted((folder / "out").rglob("*"), reverse=True):
        path.rmdir()
    (folder / "out").rmdir()
    seconds, megabytes = map(float, result.stdout.split())
    return seconds, megabytes


def _pandas(folder: Path) -> list[object]:
    columns = ["impression", "reader", "time", "history", "candidates"]
    table = pd.read_csv(folder / "behaviors.tsv", sep="\t", header=None, names=columns, quoting=3)
    table["time"] = pd.to_datetime(table["time"], format="%m/%d/%Y %I:%M:%S %p")
    with (folder / "news.tsv").open(encoding="utf-8") as news:
        ids = {line.split("\t", 1)[0]: row for row, line in enumerate(news, 1)}
    rows: list[object] = []
    for row in table.itertuples():
        history = [ids[article] for article in row.history.split() if article in ids]
        shown = [entry.rsplit("-", 1) for entry in row.candidates.split()]
        rows.append(
            (history, [ids.get(article, 0) for article, _ in shown], [int(label) for _, label in shown])
        )
    return rows
