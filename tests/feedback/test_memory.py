"""Memory does not grow with the rows of a log: peaks of processes for a log and for ten times its rows."""

import numpy as np
import polars as pl
import pytest

from peaks import peak_megabytes

ROWS = 20_000

PREPARE = """
from pathlib import Path
import counterpoint.storage.rows
from counterpoint.feedback.data.layout import find
from counterpoint.feedback.data.prepare import prepare
from counterpoint.feedback.recipe import FeedbackRecipe
from counterpoint.workload import Preparation

counterpoint.storage.rows.BLOCK_BYTES = 1 << 20
recipe = {{
    "name": "test",
    "columns": {{"ids": ["user", "item", "author"], "numbers": ["length"], "lists": ["tags"]}},
    "labels": {{"like": "liked == 1", "long": "played > quantile(played, 0.5)"}},
}}
prepare(find(Path({log!r})), Path({out!r}), FeedbackRecipe.model_validate(recipe), Preparation())
"""

SIMULATE = """
from pathlib import Path
from counterpoint.simulation.views import log as simulate

simulate.ROWS_PER_PAGE = 1 << 14
simulate.simulate(Path({out!r}), users={rows} // 50, videos=300, rows={rows})
"""

JOIN = """
from pathlib import Path
import counterpoint.storage.rows
from counterpoint.feedback.data.formats import aliccp_raw
from counterpoint.progress import silent

counterpoint.storage.rows.BLOCK_BYTES, aliccp_raw.JOINED_IDS = 1 << 18, 1 << 16
skeleton = Path({log!r}) / "sample_skeleton_train.csv"
form = aliccp_raw.FORMAT
bad = counterpoint.storage.rows.BadRows("stop", Path({out!r}))
blocks = form.read(skeleton, form.partner_of(skeleton), ["click", "101", "110_14"], ["110_14"], bad, silent)
assert sum(map(len, blocks)) == {rows}
"""


def write_table(folder, rows):
    """Write views whose ids are long, so that a row takes far more as text than as numbers."""
    draw = np.random.default_rng(0)
    long = "an-id-as-long-as-some-shops-have-them-" * 3
    folder.mkdir()
    ids = {name: long + pl.Series(draw.integers(40, size=rows)).cast(pl.String) for name in ("user", "item")}
    numbers = {"length": draw.random(rows), "played": draw.random(rows), "liked": draw.integers(2, size=rows)}
    table = pl.DataFrame({**ids, "author": ids["item"], "tags": ids["user"], **numbers})
    table.write_csv(folder / "views.csv", float_precision=3)


@pytest.mark.slow
def test_memory_of_preparing_does_not_grow_with_the_rows(tmp_path):
    peaks = []
    for rows in (ROWS, 10 * ROWS):
        log = tmp_path / str(rows)
        write_table(log, rows)
        peaks.append(peak_megabytes(PREPARE, log=str(log), out=str(tmp_path / f"store-{rows}")))
    held = (tmp_path / str(10 * ROWS) / "views.csv").stat().st_size / 2**20
    assert peaks[1] < peaks[0] + held / 2


@pytest.mark.slow
def test_memory_of_simulating_does_not_grow_with_the_rows(tmp_path):
    peaks = [
        peak_megabytes(SIMULATE, rows=rows, out=str(tmp_path / str(rows))) for rows in (2 * ROWS, 20 * ROWS)
    ]
    assert peaks[1] < peaks[0] + 40


@pytest.mark.slow
def test_memory_of_joining_alibabas_samples_does_not_grow_with_them(tmp_path):
    """Each sample has 100 ids that it shares with ten others; joined, all samples have gigabytes of them."""
    peaks = []
    for rows in (ROWS, 10 * ROWS):
        log = tmp_path / str(rows)
        log.mkdir()
        shared = "\x01".join(["101\x025\x031", *(f"110_14\x02{number}\x031" for number in range(100))])
        with (log / "common_features_train.csv").open("w") as file:
            file.writelines(f"{key:016x},101,{shared}\n" for key in range(rows // 10))
        with (log / "sample_skeleton_train.csv").open("w") as file:
            file.writelines(f"{row},0,0,{row // 10:016x},1,205\x027\x031\n" for row in range(rows))
        peaks.append(peak_megabytes(JOIN, log=str(log), out=str(tmp_path / "bad"), rows=rows))
    assert peaks[1] < peaks[0] + 40
