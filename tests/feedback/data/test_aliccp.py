"""Ali-CCP as Tianchi publishes it and as PaddleRec shares it."""

import json
from collections import defaultdict
from itertools import pairwise

import numpy as np
import pytest

from counterpoint.errors import BadRowError, CounterpointError, UsageError
from counterpoint.feedback.data.layout import find

SAMPLE = "paddlerec_esmm_aliccp_small.txt"
ANN, BOB = "bacff91692951881", "0fd3e1c3d4a56c90"
COMMON = {ANN: "101:7=1 121:70=1 109_14:5=2.07944 109_14:3=0.69315", BOB: "101:8=1"}
TRAIN = [
    ("1", "1", "1", ANN, "205:40=1 206:9=1 210:1=1 210:2=1.5"),
    ("2", "0", "0", BOB, "205:41=1 206:9=1 301:60=1"),
    ("3", "1", "0", ANN, "205:41=1 508:80=0.5 210:2=1 853:4=1 853:6=1"),
]
TEST = [("1", "0", "0", ANN, "205:42=1 206:9=1 109_14:6=1 210:2=1 210:3=1")]
FEW = {"validation_share": 0.4, "test_share": 0.2}


def written(features):
    """Return features as the published files write them."""
    marks = str.maketrans({" ": "\x01", ":": "\x02", "=": "\x03"})
    return f"{len(features.split())},{features.translate(marks)}"


def write(folder, split, samples, common):
    """Write the two files of a split; lines of common features may be whole texts."""
    lines = [",".join((*sample[:-1], written(sample[-1]))) for sample in samples]
    (folder / f"sample_skeleton_{split}.csv").write_text("\n".join(lines) + "\n")
    lines = [f"{key},{written(features)}" for key, features in common.items()]
    (folder / f"common_features_{split}.csv").write_text("\n".join(lines) + "\n")


@pytest.fixture
def raw(tmp_path):
    folder = tmp_path / "aliccp"
    folder.mkdir()
    write(folder, "train", TRAIN, COMMON)
    write(folder, "test", TEST, COMMON)
    return folder


def ids_of(store, split):
    """Return, in the order of the rows, what each has: the ids by field."""
    rows = store.rows(split)
    names = [column.name for column in store.schema.ids]
    vocabularies = {name: [None, *ids.to_list()] for name, ids in store.fitted.vocabularies.items()}
    found = [
        {name: vocabularies[name][number] for name, number in zip(names, row, strict=True) if number}
        for row in rows.ids.tolist()
    ]
    for (values, offsets), column in zip(rows.lists, store.schema.lists, strict=True):
        for row, (start, end) in enumerate(pairwise(offsets.tolist())):
            if end > start:
                found[row][column.name] = [vocabularies[column.name][number] for number in values[start:end]]
    return found


def every_row(store):
    """Return labels and ids of all rows of all splits, sorted."""
    return sorted(
        (labels, sorted(ids.items()))
        for split in ("train", "validation", "test")
        for labels, ids in zip(store.rows(split).labels.tolist(), ids_of(store, split), strict=True)
    )


def test_samples_are_joined_to_what_they_have_in_common(raw, prepared):
    store = prepared(raw, data={"validation_share": 0.3, "test_share": 0.1})
    assert store.manifest["source"]["format"] == "aliccp-raw"
    assert [path.rsplit("/", 1)[1] for path in store.manifest["source"]["files"]] == [
        "sample_skeleton_train.csv",
        "sample_skeleton_test.csv",
        "common_features_train.csv",
        "common_features_test.csv",
    ]
    assert store.manifest["columns"]["user"] == "101"
    assert store.manifest["columns"]["item"] == "205"
    assert store.manifest["splits"] == {"train": 2, "validation": 1, "test": 1}
    assert [column.name for column in store.schema.lists] == [
        "109_14",
        "110_14",
        "127_14",
        "150_14",
        "210",
        "853",
    ]
    assert store.users.to_list() == ["7", "8"]
    assert store.items.to_list() == ["40", "41", "42"]


def test_every_field_of_a_sample_is_read(raw, prepared):
    """The three samples test; training has each twice, and all ids are known."""
    for kind in ("sample_skeleton", "common_features"):
        (raw / f"{kind}_test.csv").unlink()
        (raw / f"{kind}_train.csv").rename(raw / f"{kind}_test.csv")
    write(raw, "train", [*TRAIN, *TRAIN], COMMON)
    store = prepared(raw, data={"validation_share": 0.1, "test_share": 0.1})
    known = {
        "ann, 40": (
            [1, 1],
            {"101": "7", "121": "70", "205": "40", "206": "9", "109_14": ["5", "3"], "210": ["1", "2"]},
        ),
        "bob, 41": ([0, 0], {"101": "8", "205": "41", "206": "9", "301": "60"}),
        "ann, 41": (
            [1, 0],
            {
                "101": "7",
                "121": "70",
                "205": "41",
                "508": "80",
                "109_14": ["5", "3"],
                "210": ["2"],
                "853": ["4", "6"],
            },
        ),
    }
    found = list(zip(store.rows("test").labels.tolist(), ids_of(store, "test"), strict=True))
    assert found == list(known.values())


def test_ids_that_a_sample_has_beside_the_common_ones_come_first(raw, prepared):
    write(raw, "train", [*TRAIN, ("4", "0", "0", ANN, TEST[0][-1])] * 2, COMMON)
    store = prepared(raw, data={"validation_share": 0.1, "test_share": 0.1})
    assert ids_of(store, "test")[0]["109_14"] == ["6", "5", "3"]


@pytest.mark.slow
def test_blocks_and_pieces_of_any_size_give_the_same_rows(raw, prepared, monkeypatch):
    draw = np.random.default_rng(0)
    keys = {f"{number:016x}": f"101:{number}=1 121:{number % 3}=1" for number in range(12)}
    for number, key in enumerate(keys):
        keys[key] += "".join(f" 109_14:{draw.integers(9)}=0.5" for _ in range(number % 5))
    samples = [
        (
            str(number),
            *(("1", "1"), ("1", "0"), ("0", "0"))[draw.integers(3)],
            list(keys)[draw.integers(12)],
            f"205:{draw.integers(8)}=1" + "".join(f" 210:{tag}=1" for tag in range(draw.integers(4))),
        )
        for number in range(24)
    ]
    for split in ("train", "test"):
        write(raw, split, samples, keys)
    whole = prepared(raw, name="whole")
    assert sum(whole.manifest["splits"].values()) == 48
    monkeypatch.setattr("counterpoint.storage.rows.BLOCK_BYTES", 600)
    monkeypatch.setattr("counterpoint.feedback.data.formats.aliccp_raw.JOINED_IDS", 9)
    parts = prepared(raw, name="parts")
    assert {key for key in whole.manifest if whole.manifest[key] != parts.manifest[key]} == set()
    for split in ("train", "validation", "test"):
        assert (whole.rows(split).labels == parts.rows(split).labels).all()
        assert ids_of(whole, split) == ids_of(parts, split)


def bad(place, **changed):
    """Return the training samples with one changed."""
    names = ("sample", "click", "purchase", "key", "features")
    samples = [dict(zip(names, sample, strict=True)) for sample in TRAIN]
    samples[place] |= changed
    return [tuple(sample.values()) for sample in samples]


@pytest.mark.parametrize(
    ("changed", "field", "told"),
    [
        ({"purchase": "1"}, "purchase", "a purchase without a click; correct it or remove the row."),
        ({"click": "2"}, "click", "'2' is neither 0 nor 1; write one of the two."),
        ({"click": ""}, "click", "'' is neither 0 nor 1; write one of the two."),
        (
            {"key": "feedbeef"},
            "common features",
            "'feedbeef' has no sound line in common_features_train.csv; add the line or remove the row.",
        ),
        (
            {"features": "205:1=1 999:5=1"},
            "features",
            "'999 5 1' is of none of Ali-CCP's fields; correct it or remove the row.",
        ),
        ({"features": "205:1=1 206"}, "features", "'206' has no id; correct it or remove the row."),
        ({"features": "205:1=1 206:=1"}, "features", "'206  1' has no id; correct it or remove the row."),
        (
            {"features": "205:1=1 206:3"},
            "features",
            "'206 3' has no finite weight; correct it or remove the row.",
        ),
        (
            {"features": "205:1=nan 206:3=1"},
            "features",
            "'205 1 nan' has no finite weight; correct it or remove the row.",
        ),
        (
            {"features": "205:1=1 206:3=1 206:4=1"},
            "206",
            "2 ids in one row; keep one, or name the field in columns.lists and nowhere else.",
        ),
        ({"features": "206:3=1"}, "205", "it is missing; give every row a value of 205."),
        ({"key": "a,b"}, "columns", "7 columns instead of 6; separate them by commas."),
    ],
)
def test_a_malformed_sample_is_named(raw, prepared, changed, field, told):
    write(raw, "train", bad(1, **changed), COMMON)
    with pytest.raises(BadRowError) as error:
        prepared(raw, data=FEW)
    file = raw / "sample_skeleton_train.csv"
    assert str(error.value) == f"{file}, line 2, field {field!r}: {told}"


@pytest.mark.parametrize("cut", ["205\x0240\x031\x01206\x029\x031", "205\x0240\x031\x01206\x029\x031\x01"])
def test_a_line_cut_short_is_noticed_by_the_number_of_its_features(raw, prepared, cut):
    file = raw / "sample_skeleton_train.csv"
    file.write_text(file.read_text() + f"4,1,0,{ANN},3,{cut}\n")
    with pytest.raises(
        BadRowError, match=r"line 4, field 'number of features': '3' where there are 2; bring"
    ):
        prepared(raw, data=FEW)


@pytest.mark.parametrize(
    ("line", "field", "told"),
    [
        ("aa,1", "columns", "2 columns instead of 3"),
        ("aa,2,101\x025\x031", "number of features", "'2' where there are 1"),
        ("aa,one,101\x025\x031", "number of features", "'one' where there are 1"),
        ("aa,1,7\x025\x031", "features", "'7 5 1' is of none of Ali-CCP's fields"),
        (b"aa,1,101\x02\xff\x031", "text", "byte 10 of the line is not UTF-8"),
    ],
)
def test_a_malformed_line_of_common_features_is_named_once_and_its_samples_set_aside(
    raw, prepared, monkeypatch, line, field, told
):
    file = raw / "common_features_train.csv"
    text = line if isinstance(line, bytes) else line.encode()
    file.write_bytes(file.read_bytes() + text + b"\n" + b"unused,1\n")
    samples = [*TRAIN, *((str(number), "0", "0", "aa", "205:40=1") for number in range(4, 7))]
    write_skeleton = [",".join((*sample[:-1], written(sample[-1]))) for sample in samples]
    (raw / "sample_skeleton_train.csv").write_text("\n".join(write_skeleton) + "\n")
    with pytest.raises(BadRowError) as error:
        prepared(raw, data=FEW)
    assert (error.value.file, error.value.line, error.value.field) == (file, 3, field)
    assert told in str(error.value)
    assert "\n" not in str(error.value)
    monkeypatch.setattr("counterpoint.storage.rows.BLOCK_BYTES", 60)  # some samples of the key in each block
    store = prepared(raw, data=FEW, on_bad_row="skip")
    aside = [json.loads(entry) for entry in (store.path / "bad_rows.jsonl").read_text().splitlines()]
    assert [(entry["line"], entry["field"]) for entry in aside] == [
        (3, field),
        *((number, "common features") for number in (4, 5, 6)),
    ]
    assert sum(store.manifest["splits"].values()) == 4


def test_purchases_without_clicks_are_set_aside_and_counted(raw, prepared):
    bought = ("4", "0", "1", BOB, "205:40=1")
    write(raw, "train", [*TRAIN, bought, bought], COMMON)
    store = prepared(raw, data=FEW, on_bad_row="skip")
    assert store.counts["bad rows set aside"] == 2
    assert store.counts["rows read"] == 6
    assert sum(store.manifest["splits"].values()) == 4


def test_a_key_that_stands_twice_is_told(raw, prepared):
    file = raw / "common_features_train.csv"
    file.write_text(file.read_text() + f"{BOB},1,101\x029\x031\n")
    with pytest.raises(
        CounterpointError, match=rf"the key '{BOB}' stands there twice; keep one line for each"
    ):
        prepared(raw, data=FEW)


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_skeleton_needs_its_common_features(raw, split):
    (raw / f"common_features_{split}.csv").unlink()
    with pytest.raises(UsageError) as error:
        find(raw)
    assert str(error.value) == (
        f"{raw}: no common_features_{split}.csv beside sample_skeleton_{split}.csv; put it there."
    )


def test_a_skeleton_by_another_name_is_told(raw):
    (raw / "sample_skeleton_train.csv").rename(raw / "clicks.csv")
    with pytest.raises(
        UsageError, match=r"does not tell which file goes with it; call it sample_skeleton_tr"
    ):
        find(raw / "clicks.csv", "aliccp-raw")


def test_a_field_may_be_made_a_list_and_others_left_out(raw, prepared):
    write(raw, "train", [*bad(1, features="205:41=1 206:9=1 206:3=1"), *TRAIN], COMMON)
    columns = {"ids": ["101", "205"], "lists": ["206"]}
    store = prepared(raw, data=FEW, columns=columns)
    assert [column.name for column in store.schema.lists] == ["206"]
    assert store.fitted.vocabularies["206"].to_list() in (["3", "9"], ["9"])
    with pytest.raises(
        CounterpointError, match=r"the column '206' holds lists; name it in columns.lists and"
    ):
        prepared(raw, data=FEW, columns={"ids": ["206"], "lists": ["206"]})


# PaddleRec's form.


def test_paddlerecs_sample_is_read(data_root, prepared):
    file = data_root / "ctr_samples" / SAMPLE
    assert find(file).format.name == "aliccp-paddlerec"
    settings = {"validation_share": 0.2, "test_share": 0.2}
    store = prepared(data_root / "ctr_samples", format_name="aliccp-paddlerec", data=settings)
    assert store.manifest["splits"] == {"train": 6, "validation": 2, "test": 2}
    wanted = []
    for line in file.read_text().splitlines():
        _, click, buy, *features = line.split(",")
        fields = defaultdict(list)
        for feature in features:
            field, number = feature.split(":")
            fields[field].append(number)
        wanted.append(([int(click), int(buy)], fields))
    assert sum(labels[0] for labels, _ in wanted) == 2
    trained = {name: set(ids.to_list()) for name, ids in store.fitted.vocabularies.items()}
    lists = [column.name for column in store.schema.lists]
    single = [column.name for column in store.schema.ids]
    expected = sorted(
        (
            labels,
            sorted(
                [
                    (name, fields[name][0])
                    for name in single
                    if fields[name] and fields[name][0] in trained[name]
                ]
                + [
                    (name, [number if number in trained[name] else None for number in fields[name]])
                    for name in lists
                    if fields[name]
                ]
            ),
        )
        for labels, fields in wanted
    )
    assert every_row(store) == expected
    (values, offsets) = store.rows("train").lists[lists.index("110_14")]
    assert np.diff(offsets).tolist() == [342] * 6
    assert len(values) == 342 * 6


def test_paddlerecs_files_by_plain_names_may_bring_their_split(tmp_path, prepared):
    lines = ["1,1,1,210:1,210:2,205:6,101:12", "2,0,0,205:7,101:12,853:4,853:5", "", "3,1,0,205:6,101:13"]
    for name in ("train", "validation", "test"):
        (tmp_path / f"{name}.txt").write_text("\n".join(lines) + "\n")
    store = prepared(tmp_path, format_name="aliccp-paddlerec")
    assert store.manifest["splits"] == {"train": 3, "validation": 3, "test": 3}
    assert store.rows("test").labels.tolist() == [[1, 1], [0, 0], [1, 0]]
    assert ids_of(store, "test") == [
        {"101": "12", "205": "6", "210": ["1", "2"]},
        {"101": "12", "205": "7", "853": ["4", "5"]},
        {"101": "13", "205": "6"},
    ]


@pytest.mark.parametrize(
    ("line", "field", "told"),
    [
        ("4,1,1", "columns", "3 columns instead of 4 or more; write id, click, buy and the features"),
        ("4,0,1,205:6,101:12", "purchase", "a purchase without a click; correct it or remove the row."),
        ("4,yes,0,205:6,101:12", "click", "'yes' is neither 0 nor 1; write one of the two."),
        ("4,1,0,205:6,101", "features", "'101' has no id; correct it or remove the row."),
        ("4,1,0,205:6,user:12", "features", "'user:12' is of none of Ali-CCP's fields; correct it or"),
        ("4,1,0,205:6,205:7,101:12", "205", "2 ids in one row; keep one, or name the field in"),
        ("4,1,0,205:6", "101", "it is missing; give every row a value of 101."),
    ],
)
def test_a_malformed_line_of_paddlerecs_is_named(tmp_path, prepared, line, field, told):
    file = tmp_path / "aliccp_train.txt"
    file.write_text(f"1,1,1,210:1,205:6,101:12\n2,0,0,205:7,101:12\n{line}\n")
    with pytest.raises(BadRowError) as error:
        prepared(file, data=FEW)
    assert str(error.value).startswith(f"{file}, line 3, field {field!r}: {told}")
    assert "\n" not in str(error.value)
