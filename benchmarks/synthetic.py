"""News data of MIND's shape: Zipf popularity, long-tailed histories, short titles."""

from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import numpy as np

from counterpoint.encoders.loading import load_tokenizer
from counterpoint.news.data.layout import find
from counterpoint.news.data.prepare import prepare
from counterpoint.news.data.store import Store
from counterpoint.news.recipe import Data
from counterpoint.workload import Preparation

_WORDS = """
city council budget tram mountain winter coach season market shares doctor study film album recipe
garden storm flood border minister election reform school teacher summer travel island train bridge
museum phone battery launch rocket police court verdict champion final penalty record price energy
climate river forest
""".split()  # noqa: SIM905  # forty quoted words are harder to read


@cache
def store(articles: int, impressions: int, seed: int = 0) -> Store:
    """Return a prepared store: median history 19 and at most 50, 37 candidates, titles of 5 to 20 pieces."""
    folder = Path(mkdtemp(prefix="counterpoint-benchmark-"))
    write_mind(folder, articles, impressions, seed)
    return prepare(find(folder), folder / "store", load_tokenizer("minilm"), Data(), Preparation())


def write_mind(folder: Path, articles: int, impressions: int, seed: int = 0) -> None:
    """Write ``news.tsv`` and ``behaviors.tsv``."""
    draw = np.random.default_rng(seed)
    entity = '[{"Type": "P", "OccurrenceOffsets": [0], "SurfaceForms": ["%s"]}]'
    with (folder / "news.tsv").open("w", encoding="utf-8") as file:
        for article in range(articles):
            words = draw.choice(_WORDS, int(np.clip(draw.normal(14, 3.5), 3, 18)))
            title = " ".join(words).capitalize()
            file.write(f"N{article}\tc{article % 17}\ts\t{title}\t\t\t{entity % title.split()[0]}\t[]\n")
    weights = (np.arange(articles) + 10.0) ** -0.85
    popular = draw.choice(articles, size=1 << 20, p=weights / weights.sum())
    lengths = np.minimum(np.exp(draw.normal(np.log(19), 1.0, impressions)).astype(int) + 1, 50)
    with (folder / "behaviors.tsv").open("w", encoding="utf-8") as file:
        for row in range(impressions):
            clicks = " ".join(
                f"N{article}" for article in popular[draw.integers(0, len(popular), lengths[row])]
            )
            shown = popular[draw.integers(0, len(popular), 37)]
            candidates = " ".join(f"N{article}-{int(place == 5)}" for place, article in enumerate(shown))
            day = 9 + row * 6 // impressions
            file.write(f"{row + 1}\tU{row}\t11/{day}/2019 9:05:58 AM\t{clicks}\t{candidates}\n")
