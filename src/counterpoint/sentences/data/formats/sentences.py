"""Sentences and pairs of sentences: the course's files of paper 3, or one's own as CSV, TSV or JSON lines."""

from counterpoint.sentences.data.formats import Format
from counterpoint.sentences.data.rows import SUFFIXES, read_rows

FORMAT = Format(
    name="sentences",
    summary="files of each task as the recipe names them (.csv, .tsv, .jsonl): paper 3's course, or your own",
    suffixes=SUFFIXES,
    rows=read_rows,
)
