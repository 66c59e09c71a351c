"""Files of sentences as they come: with header or without, tabs or commas, and what is wrong in them."""

import json

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterpoint.errors import BadRowError, CounterpointError, UsageError
from counterpoint.progress import silent
from counterpoint.sentences.data.formats.sentences import read_rows, read_sentences
from counterpoint.sentences.data.layout import find
from counterpoint.sentences.recipe import BUILT_IN, Task
from counterpoint.storage.rows import BadRows

SENTIMENT, PARAPHRASE, SIMILARITY = (
    Task(**BUILT_IN[name]) for name in ("sentiment", "paraphrase", "similarity")
)


@pytest.fixture
def read(tmp_path):
    """Read a file with this text."""

    def of(text, task, *, labelled=True, name="file.csv", policy="stop"):
        file = tmp_path / name
        file.write_text(text, encoding="utf-8")
        bad = BadRows(policy, tmp_path / "bad.jsonl")
        return read_rows(file, task, labelled=labelled, bad=bad, progress=silent), bad

    return of


def test_the_courses_files_with_a_header(read):
    rows, _ = read("\tid\tsentence\tsentiment\n0\ta7\t It 's fine . \t3\n1\tb8\tBad .\t0\n", SENTIMENT)
    assert rows.to_dict(as_series=False) == {
        "id": ["a7", "b8"],
        "first": ["It 's fine .", "Bad ."],
        "label": [3.0, 0.0],
    }


def test_the_courses_files_without_a_header(read):
    rows, _ = read("68003\t18a\tIs it?\tIs it so?\t1.0\n4\t7f\tWhy?\tHow?\t0.0\n", PARAPHRASE)
    assert rows["id"].to_list() == ["18a", "7f"]
    assert rows["second"].to_list() == ["Is it so?", "How?"]
    assert rows["label"].to_list() == [1.0, 0.0]


def test_quotes_are_those_of_csv(read):
    text = (
        '\tid\tsentence1\tsentence2\tis_duplicate\n0\tq\t"""Which: I ""see"" it?"""\tPlain "word" here\t1.0\n'
    )
    rows, _ = read(text, PARAPHRASE)
    assert rows.row(0) == ("q", '"Which: I "see" it?"', 'Plain "word" here', 1.0)


def test_files_to_predict_have_no_labels_and_may_have_an_index_more(read):
    rows, _ = read("0\t\tid\tsentence\n1\t0.0\tb7\tBiopic\n", SENTIMENT, labelled=False)
    assert rows.to_dict(as_series=False) == {"id": ["b7"], "first": ["Biopic"]}
    rows, _ = read("12\tb7\tOne\tOther\n", SIMILARITY, labelled=False)
    assert rows.row(0) == ("b7", "One", "Other")


def test_similarities_stay_real_numbers(read):
    rows, _ = read("\tid\tsentence1\tsentence2\tsimilarity\n0\ta\tb\tc\t4.6\n1\td\te\tf\t0\n", SIMILARITY)
    assert rows["label"].to_list() == [4.6, 0.0]


def test_ones_own_csv_and_json_lines(read):
    rows, _ = read('sentence,sentiment\n"Good, in parts",3\nBad,0\n', SENTIMENT)
    assert rows.to_dict(as_series=False) == {
        "id": ["2", "3"],
        "first": ["Good, in parts", "Bad"],
        "label": [3.0, 0.0],
    }
    objects = [
        {"sentence1": "a", "sentence2": "b", "similarity": 2.5},
        {"sentence2": "d", "sentence1": "c", "similarity": "1"},
    ]
    rows, _ = read("\n".join(map(json.dumps, objects)), SIMILARITY, name="file.jsonl")
    assert rows["second"].to_list() == ["b", "d"]
    assert rows["label"].to_list() == [2.5, 1.0]


def test_rows_without_an_id_are_called_by_their_line(read):
    objects = [
        {"id": "a7", "sentence": "Good.", "sentiment": 3},
        {"sentence": "Bad.", "sentiment": 0},
        {"id": None, "sentence": "Odd.", "sentiment": 1},
        {"id": 12, "sentence": "Fine.", "sentiment": 2},
    ]
    for first in (0, 1):
        written = "\n".join(map(json.dumps, objects[first:]))
        rows, _ = read(written, SENTIMENT, name="file.jsonl")
        assert rows["id"].to_list() == (["a7", "2", "3", "12"] if first == 0 else ["1", "2", "12"])
    rows, _ = read("id,sentence,sentiment\na7,Good,3\n,Bad,0\n", SENTIMENT)
    assert rows["id"].to_list() == ["a7", "3"]


@pytest.mark.parametrize(
    ("text", "task", "labelled"),
    [
        ("\tsid\tquestion1\tquestion2\n735\tc1\tOne\tOther\n", SIMILARITY, False),
        ("\tsid\tquestion1\tquestion2\tscore\n735\tc1\tOne\tOther\t2.5\n", SIMILARITY, True),
        ("index\tsid\ttext\n0\ta\tFine .\n", SENTIMENT, False),
    ],
    ids=["pairs", "labelled", "sentences"],
)  # fmt: skip
def test_a_header_of_other_names_is_no_row(read, text, task, labelled):
    with pytest.raises(CounterpointError, match=rf"no columns are called '{task.texts[0]}' \(there are "):
        read(text, task, labelled=labelled)


def test_a_broken_first_row_without_a_header_is_counted(read):
    for row in ("4\t7f\tWhy?\tHow?\tyes", "4\t7f\tWhy?\tHow?\t", "4\t7f\t\tHow?\t1.0"):
        rows, bad = read(f"{row}\n5\t8a\tIs it?\tIs it so?\t1.0\n", PARAPHRASE, policy="skip")
        assert rows["id"].to_list() == ["8a"]
        assert bad.count == 1


SST = "\tid\tsentence\tsentiment\n0\ta\tFine .\t3\n"
STS = "\tid\tsentence1\tsentence2\tsimilarity\n0\ta\tb\tc\t4.6\n"
QUORA = "\tid\tsentence1\tsentence2\tis_duplicate\n0\ta\tb\tc\t1.0\n"


@pytest.mark.parametrize(
    ("task", "text", "message"),
    [
        (SENTIMENT, SST + "1\tb\tOdd .\t5\n", "line 3, field 'sentiment': '5' is no class from 0 to 4"),
        (SENTIMENT, SST + "1\tb\tOdd .\t-1\n", "'-1' is no class from 0 to 4"),
        (SENTIMENT, SST + "1\tb\tOdd .\t2.5\n", "'2.5' is no class from 0 to 4"),
        (SENTIMENT, SST + "1\tb\tOdd .\tgood\n", "'good' is no class from 0 to 4"),
        (SENTIMENT, SST + "1\tb\tOdd .\tnan\n", "'nan' is no class from 0 to 4"),
        (SENTIMENT, SST + "1\tb\tOdd .\t\n", "field 'sentiment': the label is missing"),
        (SENTIMENT, SST + "1\tb\t  \t2\n", "line 3, field 'sentence': the sentence is empty"),
        (SIMILARITY, STS + "1\tb\tx\ty\t5.1\n", "line 3, field 'similarity': '5.1' is no score from 0 to 5"),
        (SIMILARITY, STS + "1\tb\tx\ty\t-0.2\n", "'-0.2' is no score from 0 to 5"),
        (SIMILARITY, STS + "1\tb\tx\ty\tinf\n", "'inf' is no score from 0 to 5"),
        (PARAPHRASE, QUORA + "1\tb\tx\t\t1.0\n", "line 3, field 'sentence2': the sentence is empty"),
        (PARAPHRASE, QUORA + "1\tb\t\tx\t1.0\n", "line 3, field 'sentence1': the sentence is empty"),
        (PARAPHRASE, QUORA + "1\tb\tx\ty\t0.5\n", "'0.5' is no class from 0 to 1"),
        (PARAPHRASE, QUORA + "1\tb\tx\n", "3 columns instead of 5; separate them by tabs"),
        (PARAPHRASE, STS, "called 'is_duplicate' (there are id, sentence1, sentence2, similarity)"),
        (PARAPHRASE, SST, "no columns are called 'sentence1'"),
        (SENTIMENT, "a,b\n1,2\n", "'sentence' (there are a, b); name sentence, sentiment"),
        (SENTIMENT, "", "the file is empty"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_sentence(read, tmp_path, task, text, message):
    with pytest.raises(CounterpointError) as caught:
        read(text, task)
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"{tmp_path / 'file.csv'}")


def test_broken_rows_are_set_aside_and_counted(read):
    rows, bad = read(SST + "1\tb\t\t2\n2\tc\tGood .\t9\n3\td\tLast .\t1\n", SENTIMENT, policy="skip")
    assert rows["id"].to_list() == ["a", "d"]
    assert bad.count == 2
    told = [json.loads(line) for line in bad.aside.read_text().splitlines()]
    assert [(each["line"], each["field"]) for each in told] == [(3, "sentence"), (4, "sentiment")]


@given(
    st.lists(
        st.tuples(
            st.text(
                st.characters(exclude_characters="\r\n\x00", exclude_categories=["Cs"]),
                min_size=1,
                max_size=12,
            ),
            st.integers(0, 4),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_what_was_written_as_csv_is_read(tmp_path_factory, written):
    import csv

    written = [
        (text, label) for text, label in written if text.strip() and pl.Series([text]).str.strip_chars()[0]
    ]
    file = tmp_path_factory.mktemp("csv") / "own.csv"
    with file.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream, lineterminator="\n").writerows([("sentence", "sentiment"), *written])
    rows = read_rows(file, SENTIMENT, labelled=True, bad=BadRows("stop", file), progress=silent)
    assert rows["label"].to_list() == [float(label) for _, label in written]
    expected = pl.Series([text for text, _ in written], dtype=pl.String).str.strip_chars().to_list()
    assert rows["first"].to_list() == expected


def test_sentences_to_embed_come_from_lines_or_a_column(tmp_path):
    (tmp_path / "a.txt").write_text("One.\n Two \n", encoding="utf-8")
    (tmp_path / "b.csv").write_text('title,year\n"One, then",1\nTwo,2\n', encoding="utf-8")
    assert [text for part in read_sentences(tmp_path / "a.txt", "sentence") for text in part] == [
        "One.",
        "Two",
    ]
    assert [text for part in read_sentences(tmp_path / "b.csv", "title") for text in part] == [
        "One, then",
        "Two",
    ]
    assert [text for part in read_sentences(tmp_path / "b.csv", "year") for text in part] == ["1", "2"]
    (tmp_path / "c.csv").write_text("id,year\na,1\n", encoding="utf-8")
    assert [text for part in read_sentences(tmp_path / "c.csv", "id") for text in part] == ["a"]
    (tmp_path / "a.txt").write_text("One.\n\nTwo\n", encoding="utf-8")
    with pytest.raises(BadRowError, match=r"a.txt, line 2.*the sentence is empty"):
        list(read_sentences(tmp_path / "a.txt", "sentence"))
    with pytest.raises(UsageError, match=r"sentences are read from .txt, .csv, .tsv, .jsonl; convert it"):
        list(read_sentences(tmp_path / "a.pdf", "sentence"))


def test_files_are_found_by_the_tasks_patterns(course, recipe):
    found = find(course, recipe())
    assert list(found) == ["paraphrase", "sentiment", "similarity"]
    assert [file.name for file in found["paraphrase"].train] == ["quora-train-a.csv", "quora-train-b.csv"]
    assert [file.name for file in found["sentiment"].unlabelled] == ["ids-sst-test-student.csv"]
    assert found["paraphrase"].unlabelled == []
    elsewhere = recipe(f"task.sentiment.train={course}/ids-sst-tr*", "task.sentiment.test=")
    assert [file.name for file in find(course, elsewhere)["sentiment"].train] == ["ids-sst-train.csv"]
    assert find(course, elsewhere)["sentiment"].test == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (['tasks=["sentiment", "cfimdb"]'], "no training file of the task 'cfimdb'"),
        (["task.sentiment.test=ids-sst-*"], "3 files fit ids-sst-*"),
    ],
)  # fmt: skip
def test_files_that_do_not_fit_are_one_sentence(course, recipe, settings, message):
    with pytest.raises(UsageError) as caught:
        find(course, recipe(*settings))
    assert message in str(caught.value)
    with pytest.raises(UsageError, match="no such folder"):
        find(course / "nowhere", recipe())
