"""A little news site that tests write in MIND's format."""

import json
from pathlib import Path

ARTICLES = [
    ("N1", "news", "newsus", "City council votes on new tram line"),
    ("N2", "sports", "cycling", "Ada Holm wins the mountain stage"),
    ("N3", "food", "recipes", "Five soups for cold evenings"),
    ("N4", "news", "newsworld", "Berlin opens a museum of maps"),
    ("N5", "sports", "football", "Late goal saves the home team"),
    ("N6", "finance", "markets", "Markets calm after a long week"),
    ("N7", "news", "newsus", "Storm closes the harbour bridge"),
    ("N8", "food", "wine", "A short guide to dry white wine"),
    ("N9", "finance", "jobs", "Why so many bakers change jobs"),
    ("N10", "travel", "trains", "By night train to the sea"),
    ("N11", "travel", "hiking", "Three easy walks near Oslo"),
    ("N12", "sports", "cycling", "The peloton rests before the Alps"),
]
ENTITIES = {
    "N2": [("P", "Q1", "Ada Holm", 0)],
    "N4": [("G", "Q64", "Berlin", 0)],
    "N11": [("G", "Q585", "Oslo", 22)],
    "N12": [("L", "Q1286", "Alps", 29)],
}
# Day of November 2019, hour, reader, history, candidates; four days, the last two validate and test.
IMPRESSIONS = [
    (11, 8, "U1", "N1 N2", "N3-1 N4-0 N5-0"),
    (11, 9, "U2", "", "N4-0 N5-1"),
    (11, 10, "U3", "N6", "N1-0 N7-1 N8-0 N9-0 N10-0"),
    (11, 11, "U1", "N1 N2", "N6-0 N7-1"),
    (11, 12, "U4", "N8 N9 N10", "N11-1 N12-0"),
    (12, 8, "U5", "N2 N5 N12", "N5-0 N12-1 N3-0"),
    (12, 9, "U2", "", "N1-1 N2-0 N3-0 N6-0"),
    (12, 10, "U6", "N3 N8", "N8-1 N9-0"),
    (12, 11, "U3", "N6", "N4-0 N6-0 N9-1"),
    (12, 12, "U7", "N4", "N10-0 N11-1 N12-1"),
    (12, 13, "U4", "N8 N9 N10", "N1-0 N2-1"),
    (13, 8, "U1", "N1 N2", "N2-0 N12-1 N8-0"),
    (13, 9, "U8", "", "N5-1 N6-0"),
    (13, 10, "U5", "N2 N5 N12", "N12-1 N1-0"),
    (13, 11, "U6", "N3 N8", "N3-1 N4-0 N7-0"),
    (14, 8, "U1", "N1 N2", "N2-1 N3-0 N9-0 N10-0"),
    (14, 9, "U9", "", "N7-0 N11-1"),
    (14, 10, "U3", "N6", "N6-1 N9-0"),
    (14, 11, "U4", "N8 N9 N10", "N10-1 N11-0 N1-0"),
    (14, 12, "U5", "N2 N5 N12", "N4-0 N5-1"),
]


def entity(kind: str, identifier: str, form: str, offset: int | None) -> dict:
    """An entity as MIND writes it; without an offset it must be searched."""
    known = {} if offset is None else {"OccurrenceOffsets": [offset]}
    return {
        "Label": form,
        "Type": kind,
        "WikidataId": identifier,
        "Confidence": 1.0,
        **known,
        "SurfaceForms": [form],
    }


def news_row(
    article: str, category: str, subcategory: str, title: str, entities: list[dict] | None = None
) -> str:
    if entities is None:
        entities = [entity(*one) for one in ENTITIES.get(article, [])]
    url = f"https://example.org/{article}"
    return "\t".join(
        (article, category, subcategory, title, f"About {title}", url, json.dumps(entities), "[]")
    )


def behaviors_row(number: int, day: int, hour: int, reader: str, history: str, candidates: str) -> str:
    time = f"11/{day}/2019 {(hour - 1) % 12 + 1}:00:00 {'AM' if hour < 12 else 'PM'}"
    return "\t".join((str(number), reader, time, history, candidates))


def write_mind(folder: Path, news: list[str] | None = None, behaviors: list[str] | None = None) -> Path:
    """Write a folder in MIND's format; by default the 12 articles and 20 impressions above."""
    if news is None:
        news = [news_row(*row) for row in ARTICLES]
    if behaviors is None:
        behaviors = [behaviors_row(number, *row) for number, row in enumerate(IMPRESSIONS, 1)]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "news.tsv").write_text("\n".join(news) + "\n", encoding="utf-8")
    (folder / "behaviors.tsv").write_text("\n".join(behaviors) + "\n", encoding="utf-8")
    return folder
