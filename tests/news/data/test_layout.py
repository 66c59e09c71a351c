from pathlib import Path

import pytest

from counterpoint.errors import CounterpointError, UsageError
from counterpoint.news.data.layout import find


def place(root: Path, *files: str) -> Path:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_text("x")
    return root


def roles(root: Path) -> dict[str, str]:
    return {str(part.impressions.relative_to(root)): part.role for part in find(root).parts}


def test_folders_by_role(tmp_path):
    files = [f"{role}/{file}" for role in ("train", "dev", "test") for file in ("news.tsv", "behaviors.tsv")]
    root = place(tmp_path, *files, "train/entity_embedding.vec", "dev/relation_embedding.vec")
    source = find(root)

    assert roles(root) == {f"{role}/behaviors.tsv": role for role in ("train", "dev", "test")}
    assert [file.parent.name for file in source.articles] == ["train", "dev", "test"]
    assert [str(file.relative_to(root)) for file in source.vectors] == [
        "train/entity_embedding.vec",
        "dev/relation_embedding.vec",
    ]


@pytest.mark.parametrize("prefix", ["MINDsmall_", "MINDlarge_", "mind-demo-"])
def test_folders_as_the_archives_name_them(prefix, tmp_path):
    root = place(
        tmp_path,
        *(f"{prefix}{role}/{file}" for role in ("train", "dev") for file in ("news.tsv", "behaviors.tsv")),
    )
    assert roles(root) == {f"{prefix}train/behaviors.tsv": "train", f"{prefix}dev/behaviors.tsv": "dev"}


@pytest.mark.parametrize("name", ["valid", "validation", "MINDdemo_valid"])
def test_other_words_for_dev(name, tmp_path):
    root = place(tmp_path, "train/behaviors.tsv", f"{name}/behaviors.tsv", "news.tsv")
    assert roles(root) == {"train/behaviors.tsv": "train", f"{name}/behaviors.tsv": "dev"}


def test_roles_in_the_names_of_files(tmp_path):
    root = place(tmp_path, "news.tsv", "behaviors_train.tsv", "behaviors_dev.tsv", "behaviors_test.tsv")
    assert roles(root) == {
        "behaviors_train.tsv": "train",
        "behaviors_dev.tsv": "dev",
        "behaviors_test.tsv": "test",
    }


def test_one_folder_alone(tmp_path):
    assert roles(place(tmp_path, "news.tsv", "behaviors.tsv", "old/behaviors.tsv")) == {
        "behaviors.tsv": "all"
    }


def test_own_logs_are_found_and_mind_goes_first(tmp_path):
    root = place(tmp_path, "articles.csv", "impressions.jsonl")
    assert find(root).format.name == "logs"
    place(root, "news.tsv", "behaviors.tsv")
    assert find(root).format.name == "mind"
    assert find(root, "logs").format.name == "logs"


@pytest.mark.parametrize(
    ("files", "format_name", "message"),
    [
        ((), None, r"no data found, .* behaviors.tsv with news.tsv; or impressions.parquet or"),
        (("train/behaviors.parquet",), None, r"train/history.parquet: missing; put the readers' histories"),
        (("news.tsv", "dev/behaviors.tsv"), None, r"no training impressions; add train/"),
        (("news.tsv", "behaviors.tsv"), "logs", "no data found, looked for impressions.parquet"),
        (
            ("news.tsv",),
            "mint",
            r"format: no format is called 'mint' \(did you mean 'mind'\?\); known: ebnerd, logs, mind,",
        ),
    ],
)
def test_what_is_missing_is_named(files, format_name, message, tmp_path):
    with pytest.raises(UsageError, match=message):
        find(place(tmp_path, *files), format_name)


def test_no_folder(tmp_path):
    with pytest.raises(CounterpointError, match="no such folder"):
        find(tmp_path / "nowhere")


def test_ebnerd_s_histories_belong_to_their_impressions(tmp_path):
    root = place(
        tmp_path,
        "articles.parquet",
        "train/behaviors.parquet",
        "train/history.parquet",
        "behaviors_validation.parquet",
        "history_validation.parquet",
    )
    source = find(root)
    assert source.format.name == "ebnerd"
    assert [(part.role, part.place, part.histories) for part in source.parts] == [
        ("train", "train folder", root / "train" / "history.parquet"),
        ("dev", "behaviors_validation.parquet", root / "history_validation.parquet"),
    ]
    assert set(source.files) == set(root.rglob("*.parquet"))


def test_a_folder_of_bundles(tmp_path):
    root = place(
        tmp_path,
        *(f"MINDsmall/{role}/{file}" for role in ("train", "dev") for file in ("news.tsv", "behaviors.tsv")),
        "MINDlarge/MINDlarge_test/behaviors.tsv",
        "MINDlarge/news.tsv",
        "notes/behaviors.tsv",
    )
    source = find(root)
    assert [part.role for part in source.parts] == ["test", "train", "dev"]
    assert [str(file.relative_to(root)) for file in source.articles] == [
        "MINDlarge/news.tsv",
        "MINDsmall/train/news.tsv",
        "MINDsmall/dev/news.tsv",
    ]
