from pathlib import Path

import pytest

from counterpoint.behaviors.data.layout import find
from counterpoint.errors import UsageError


def place(root: Path, *files: str) -> Path:
    for file in files:
        (root / file).write_text("x")
    return root


@pytest.mark.parametrize(
    ("files", "format_name", "log"),
    [
        (("UserBehavior.csv",), "userbehavior", "UserBehavior.csv"),
        (("UserBehavior_first815users.csv", "README.md"), "userbehavior", "UserBehavior_first815users.csv"),
        (("user_log_format1.csv",), "ijcai15", "user_log_format1.csv"),
        (("raw_user_log_100users.csv",), "ijcai15", "raw_user_log_100users.csv"),
        (("interactions.jsonl",), "interactions", "interactions.jsonl"),
        (("train_2024.parquet", "notes.csv"), "interactions", "train_2024.parquet"),
        (("train.csv", "raw_user_log_100users.csv"), "interactions", "train.csv"),
        (("interactions.csv", "UserBehavior.csv"), "interactions", "interactions.csv"),
    ],
)
def test_a_log_is_found_by_its_name(files, format_name, log, tmp_path):
    source = find(place(tmp_path, *files))
    assert (source.format.name, source.files) == (format_name, (tmp_path / log,))


def test_the_data_s_own_split_stands_beside_the_log(tmp_path):
    source = find(place(tmp_path, "train.parquet", "test_buy.csv", "validation.jsonl", "UserBehavior.csv"))
    assert source.files == tuple(
        tmp_path / name for name in ("train.parquet", "validation.jsonl", "test_buy.csv")
    )


def test_the_format_or_a_path_says_otherwise(tmp_path):
    place(tmp_path, "train.csv", "test.csv", "UserBehavior.csv", "export.csv")
    for source in (find(tmp_path, "userbehavior"), find(tmp_path / "UserBehavior.csv")):
        assert (source.format.name, source.files) == ("userbehavior", (tmp_path / "UserBehavior.csv",))
    assert find(tmp_path / "train.csv").files == (tmp_path / "train.csv",)
    assert find(tmp_path / "export.csv", "interactions").format.name == "interactions"
    assert find(tmp_path / "export.csv", "ijcai15").log == tmp_path / "export.csv"


@pytest.mark.parametrize(
    ("files", "format_name", "message"),
    [
        (
            (),
            None,
            r"no log found, looked for \*user_log\*\.csv, or UserBehavior\*\.csv, or train\*\.parquet, .*\.$",
        ),
        (("train.csv",), "userbehavior", r"no log found, looked for UserBehavior\*\.csv\.$"),
        (
            ("train.csv",),
            "userbehaviour",
            r"no format is called 'userbehaviour' \(did you mean 'userbehavior'\?\); known: ijcai15, ",
        ),
        (("train.csv", "train.parquet"), None, r"2 logs \(train.csv, train.parquet\); name one of them"),
        (("train.csv", "interactions.csv"), None, r"2 logs \(interactions.csv, train.csv\)"),
        (("UserBehavior.csv", "user_log.csv"), None, r"2 logs \(user_log.csv, UserBehavior.csv\)"),
        (("train.csv", "test.csv", "test.jsonl"), None, r"2 files of test pairs \(test.csv, test.jsonl\)"),
        (("train.csv", "validation.csv"), None, r"validation.csv: .* no test\* beside them"),
    ],
)
def test_what_is_missing_or_too_many_is_named(files, format_name, message, tmp_path):
    with pytest.raises(UsageError, match=message):
        find(place(tmp_path, *files), format_name)


@pytest.mark.parametrize(
    ("name", "format_name", "message"),
    [
        ("nowhere", None, "nowhere: no such file or folder; give the one that holds the log"),
        (
            "log.csv",
            None,
            r"its name tells no format \(.*\); say which it is: ijcai15, interactions, userbehavior\.$",
        ),
        ("log.tsv", "interactions", "interactions are read from .parquet, .csv, .jsonl; convert it"),
    ],
)
def test_a_path_that_is_no_log(name, format_name, message, tmp_path):
    place(tmp_path, "log.csv", "log.tsv")
    with pytest.raises(UsageError, match=message):
        find(tmp_path / name, format_name)
