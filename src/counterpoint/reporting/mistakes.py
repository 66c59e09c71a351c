"""What a model confuses and which examples it misses most, as tables of the report."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from counterpoint.reporting import page
from counterpoint.reporting.page import Html
from counterpoint.runs.records import Group


def sections(groups: Sequence[Group]) -> Iterator[Html]:
    """Yield what the first run of each recipe confuses and misses; nothing where it was not looked at."""
    for group in groups:
        for split, evaluation in group.runs[0].evaluations.items():
            about = f"{group.label}, {split}" if len(groups) > 1 else split
            yield _section(
                f"Confusions, {about}",
                [_confusion(task, counts) for task, counts in evaluation.get("confusions", {}).items()],
                "Rows: what the data says. Columns: what the model answered.",
            )
            missed = evaluation.get("missed", {})
            yield _section(
                f"Most missed, {about}",
                [_missed(task, examples) for task, examples in missed.items() if examples],
                "Of classes the wrong answers that the model was surest of, of scores those farthest off.",
            )


def _section(title: str, tables: Sequence[Html], note: str) -> Html:
    if not tables:
        return Html("")
    return page.section(title, *tables, page.element("p", page.text(note), class_="note"))


def _confusion(task: str, counts: Sequence[Sequence[int]]) -> Html:
    rows = [
        page.row(
            str(truth),
            [
                page.element("td", page.element("b", cell) if truth == answer else cell)
                for answer, cell in enumerate(page.text(f"{count:,}") for count in line)
            ],
        )
        for truth, line in enumerate(counts)
    ]
    return _with_title(task, page.table([page.text(""), *map(page.text, range(len(counts)))], rows))


def _missed(task: str, examples: Sequence[Mapping[str, Any]]) -> Html:
    sure = any(example.get("certainty") is not None for example in examples)
    rows = [
        page.row(
            " / ".join(example["texts"]),
            [
                page.element("td", page.text(f"{example['label']:g}")),
                page.element("td", page.text(f"{example['answer']:.3g}")),
                *([page.element("td", page.text(f"{example['certainty']:.2f}"))] if sure else []),
            ],
        )
        for example in examples
    ]
    header = ["", "data", "answer", *(["certainty"] if sure else [])]
    return _with_title(task, page.table([*map(page.text, header)], rows))


def _with_title(task: str, table: Html) -> Html:
    return Html(page.element("h3", page.text(task)) + table)
