"""From tables of one's own to a store: roles, labels, vocabularies, what is counted and what is refused."""

import json

import numpy as np
import polars as pl
import pytest

from counterpoint.errors import BadRowError, CounterpointError, UsageError
from counterpoint.feedback.data.layout import find
from counterpoint.feedback.data.prepare import prepare
from counterpoint.feedback.data.store import Store
from counterpoint.feedback.recipe import FeedbackRecipe
from counterpoint.workload import Preparation

COLUMNS = {"ids": ["user", "item", "author"], "numbers": ["length"], "lists": ["tags"]}
LABELS = {"long": "played > quantile(played, 0.5)", "like": "liked == 1"}
HEADER = "user,item,author,length,tags,played,liked"


def table(rows):
    return "\n".join([HEADER, *rows]) + "\n"


def views(count, seed=0):
    """Return rows in which everything varies."""
    draw = np.random.default_rng(seed)
    return [
        f"u{draw.integers(8)},v{draw.integers(6)},a{draw.integers(4)},{draw.integers(5, 60)},"
        f"{';'.join(f't{tag}' for tag in draw.integers(5, size=draw.integers(3)))},"
        f"{draw.integers(1, 100)},{int(draw.random() < 0.3)}"
        for _ in range(count)
    ]


@pytest.fixture
def given_split(tmp_path):
    """A table that brings its split, small enough to look at."""
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "train.csv").write_text(
        table(
            [
                "ann,v2,a1,10,rock;jazz,5,0",
                "bob,v1,,30,,20,1",
                "ann,v1,a2,20,jazz,40,1",
                "cid,v2,a1,,pop;jazz,100,0",
            ]
        )
    )
    (folder / "validation.csv").write_text(table(["bob,v2,a1,20,rock,30,1", "dan,v1,a2,40,folk,31,0"]))
    (folder / "test.csv").write_text(table(["ann,v3,a9,50,jazz;folk;pop,29.9,0"]))
    return folder


@pytest.fixture
def store(given_split, prepared):
    return prepared(given_split, columns=COLUMNS, labels=LABELS)


def test_ids_are_numbered_by_the_training_rows_and_others_are_unknown(store):
    assert store.fitted.vocabularies["user"].to_list() == ["ann", "bob", "cid"]
    assert store.fitted.vocabularies["author"].to_list() == ["a1", "a2"]
    assert store.rows("train").ids.tolist() == [[1, 2, 1], [2, 1, 0], [1, 1, 2], [3, 2, 1]]
    assert store.rows("validation").ids.tolist() == [[2, 2, 1], [0, 1, 2]]
    assert store.rows("test").ids.tolist() == [[1, 0, 0]]
    assert [(column.name, column.size) for column in store.schema.ids] == [
        ("user", 4),
        ("item", 3),
        ("author", 3),
    ]


def test_numbers_are_standardised_by_the_training_rows_and_missing_ones_are_the_mean(store):
    spread = np.std([10, 30, 20])
    assert store.rows("train").numbers[:, 0] == pytest.approx([-10 / spread, 10 / spread, 0, 0])
    assert store.rows("test").numbers[:, 0] == pytest.approx([30 / spread])


def test_lists_hold_the_rows_of_their_ids_one_row_of_the_log_after_another(store):
    assert store.fitted.vocabularies["tags"].to_list() == ["jazz", "pop", "rock"]
    (values, offsets), *_ = store.rows("train").lists
    assert (values.tolist(), offsets.tolist()) == ([3, 1, 1, 2, 1], [0, 2, 2, 3, 5])
    (values, offsets), *_ = store.rows("test").lists
    assert (values.tolist(), offsets.tolist()) == ([1, 0, 2], [0, 3])


def test_quantiles_are_those_of_the_training_rows_alone(store):
    assert store.manifest["quantiles"] == {"quantile(played, 0.5)": 30.0}  # of 5, 20, 40 and 100
    assert store.rows("train").labels.tolist() == [[0, 0], [0, 1], [1, 1], [1, 0]]
    assert store.rows("validation").labels.tolist() == [[0, 1], [1, 0]]
    assert store.rows("test").labels.tolist() == [[0, 0]]
    assert store.manifest["positives"]["train"] == {"long": 2, "like": 2}


def test_what_is_missing_or_unknown_is_counted(store):
    counts = store.counts
    assert counts["rows read"] == 7
    assert counts["train rows without author"] == 1
    assert counts["train rows without length"] == 1
    assert counts["validation rows with an unknown user"] == 1
    assert counts["test rows with an unknown item"] == counts["test rows with an unknown author"] == 1
    assert counts["validation rows of users that do not train"] == 1
    assert store.manifest["splits"] == {"train": 4, "validation": 2, "test": 1}


def test_ids_below_the_minimum_count_share_the_unknown_row(given_split, prepared):
    store = prepared(given_split, columns=COLUMNS, labels=LABELS, data={"min_count": 2})
    assert store.fitted.vocabularies["user"].to_list() == ["ann"]
    assert store.fitted.vocabularies["author"].to_list() == ["a1"]
    assert store.fitted.vocabularies["tags"].to_list() == ["jazz"]
    assert store.rows("train").ids[:, 0].tolist() == [1, 0, 1, 0]


def test_csv_tabs_parquet_and_json_lines_give_the_same_store(tmp_path, prepared):
    text = table(views(60))
    frame = pl.read_csv(text.encode()).with_columns(pl.col("tags").fill_null("").str.split(";"))
    write = {
        "views.csv": lambda file: file.write_text(text),
        "views.tsv": lambda file: file.write_text(text.replace(",", "\t")),
        "views.parquet": frame.write_parquet,
        "views.jsonl": frame.write_ndjson,
        "views.ndjson": frame.write_ndjson,
    }
    stores = {}
    for name, written in write.items():
        folder = tmp_path / name
        folder.mkdir()
        written(folder / name)
        stores[name] = prepared(folder, name=f"store-{name}", columns=COLUMNS, labels=LABELS)
    first = stores["views.csv"]
    for store in stores.values():
        assert {key for key in first.manifest if store.manifest[key] != first.manifest[key]} <= {"source"}
        for split in ("train", "validation", "test"):
            ours, others = first.rows(split), store.rows(split)
            assert (ours.ids == others.ids).all()
            assert (ours.numbers == others.numbers).all()
            assert (ours.labels == others.labels).all()
            assert all((a == b).all() for a, b in zip(ours.lists[0], others.lists[0], strict=True))


@pytest.mark.parametrize("name", ["views.csv", "views.jsonl"])
def test_blocks_make_no_difference(tmp_path, prepared, monkeypatch, name):
    folder = tmp_path / "log"
    folder.mkdir()
    text = table(views(200))
    if name == "views.csv":
        (folder / name).write_text(text)
    else:
        frame = pl.read_csv(text.encode())
        frame.with_columns(pl.col("tags").str.split(";")).write_ndjson(folder / name)
    whole = prepared(folder, name="whole", columns=COLUMNS, labels=LABELS, data={"core": 3})
    monkeypatch.setattr("counterpoint.storage.rows.BLOCK_BYTES", 500)
    parts = prepared(folder, name="parts", columns=COLUMNS, labels=LABELS, data={"core": 3})
    differ = {key for key in whole.manifest if whole.manifest[key] != parts.manifest[key]}
    assert not differ
    for split in ("train", "validation", "test"):
        first, second = whole.rows(split), parts.rows(split)
        assert (first.ids == second.ids).all()
        assert first.numbers == pytest.approx(second.numbers, abs=1e-6)
        assert (first.lists[0][0] == second.lists[0][0]).all()


def test_a_fingerprint_goes_by_rows_and_labels_not_by_order(tmp_path, prepared):
    rows = views(40)
    stores = {}
    changed = [*rows[:-1], rows[-1].rsplit(",", 1)[0] + (",1" if rows[-1].endswith("0") else ",0")]
    for name, written in (("as-is", rows), ("turned", rows[::-1]), ("changed", changed)):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "train.csv").write_text(table(written))
        (folder / "validation.csv").write_text(table(views(5, seed=1)))
        (folder / "test.csv").write_text(table(views(5, seed=2)))
        stores[name] = prepared(folder, name=f"store-{name}", columns=COLUMNS, labels=LABELS)
    prints = {name: store.manifest["fingerprints"] for name, store in stores.items()}
    assert prints["as-is"] == prints["turned"]
    assert prints["as-is"]["train"] != prints["changed"]["train"]
    assert prints["as-is"]["test"] == prints["changed"]["test"]


def test_columns_that_go_with_the_item_are_found(tmp_path, prepared):
    draw = np.random.default_rng(0)
    rows = []
    for _ in range(300):
        item = int(draw.integers(12))
        rows.append(
            f"u{draw.integers(15)},v{item},a{item % 5},{10 + item},t{item % 3},{draw.integers(99)},"
            f"{int(draw.random() < 0.5)}"
        )
    folder = tmp_path / "log"
    folder.mkdir()
    (folder / "views.csv").write_text(table(rows))
    store = prepared(folder, columns=COLUMNS, labels=LABELS)
    assert store.manifest["columns of the item"] == ["item", "author", "length", "tags"]


def test_a_model_brings_its_vocabulary_to_a_log_that_it_has_not_seen(given_split, store, tmp_path):
    folder = tmp_path / "tomorrow"
    folder.mkdir()
    (folder / "views.csv").write_text(table(["ann,v1,a1,20,jazz,35,1", "eve,v7,a2,10,rock,25,0"] * 10))
    recipe = FeedbackRecipe.model_validate(
        {"name": "test", "columns": COLUMNS, "labels": LABELS, "data": {"core": 1}}
    )
    made = prepare(find(folder), tmp_path / "tomorrow-store", recipe, Preparation(), store.fitted)
    assert made.manifest["fitted"] == store.manifest["fitted"]
    assert {tuple(ids) for ids in made.rows("train").ids.tolist()} == {(1, 1, 1), (0, 0, 2)}
    assert made.manifest["quantiles"] == {"quantile(played, 0.5)": 30.0}


# What is refused, in one sentence each.


def bad_row(tmp_path, prepared, row, **options):
    folder = tmp_path / "bad"
    folder.mkdir()
    (folder / "views.csv").write_text(table([*views(30), row]))
    return prepared(folder, columns=COLUMNS, labels=LABELS, **options)


@pytest.mark.parametrize(
    ("row", "field", "problem"),
    [
        ("u1,v1,a1,nan,t1,5,1", "length", "'nan' is no finite number"),
        ("u1,v1,a1,inf,t1,5,1", "length", "'inf' is no finite number"),
        ("u1,v1,a1,-Infinity,t1,5,1", "length", "'-Infinity' is no finite number"),
        ("u1,v1,a1,long,t1,5,1", "length", "'long' is no finite number"),
        ("u1,v1,a1,10,t1,,1", "played", "it is missing"),
        ("u1,v1,a1,10,t1,NaN,1", "played", "'NaN' is no finite number"),
        (",v1,a1,10,t1,5,1", "user", "it is missing"),
        ("u1,v1,a1,10,7,5,1", "tags", "the list has numbers, where those before have texts"),
        ("u1,v1,a1,10,t1;7,5,1", "tags", "the list has numbers, where those before have texts"),
        ("u1,v1,a1,10,t1,5", "columns", "6 columns instead of 7"),
    ],
)
def test_a_malformed_row_is_named(tmp_path, prepared, row, field, problem):
    with pytest.raises(BadRowError) as error:
        bad_row(tmp_path, prepared, row)
    assert (error.value.line, error.value.field) == (32, field)
    assert problem in str(error.value)
    assert "\n" not in str(error.value)


def test_malformed_rows_are_set_aside_where_that_is_asked_for(tmp_path, prepared):
    store = bad_row(tmp_path, prepared, "u1,v1,a1,nan,t1,5,1", on_bad_row="skip")
    assert store.counts["bad rows set aside"] == 1
    assert store.counts["rows read"] == 31
    assert '"field": "length"' in (store.path / "bad_rows.jsonl").read_text()
    assert sum(store.manifest["splits"].values()) == 30


PLAIN = {"user": "u1", "item": "v1", "author": "a1", "length": 9.5, "tags": ["t1"], "played": 5, "liked": 1}


def json_lines(tmp_path, *lines):
    """Write sound rows and lines after them, into a folder of their own."""
    folder = tmp_path / "lines"
    folder.mkdir()
    rows = [json.dumps({**PLAIN, "user": f"u{place % 7}", "played": place}) for place in range(30)]
    (folder / "views.jsonl").write_text("\n".join([*rows, *lines]) + "\n")
    return folder


@pytest.mark.parametrize(
    ("line", "field", "told"),
    [
        ('{"user": "u1", "item"', "line", "not a JSON object; write one object a line."),
        ("[1, 2]", "line", "not a JSON object; write one object a line."),
        ({"length": float("nan")}, "length", "'nan' is no finite number; correct it or leave it empty."),
        ({"length": float("-inf")}, "length", "'-inf' is no finite number; correct it or leave it empty."),
        ({"length": "long"}, "length", "'long' is no finite number; correct it or leave it empty."),
        ({"length": [5]}, "length", "'[5]' is neither a number nor text; write one of the two."),
        ({"played": None}, "played", "it is missing; correct it or remove the row."),
        ({"user": None}, "user", "it is missing; give every row a value of user."),
        ({"liked": True}, "liked", "'True' is neither a number nor text; write one of the two."),
        (
            {"tags": [7]},
            "tags",
            "the list has numbers, where those before have texts; write all ids of a list column alike.",
        ),
        (
            {"tags": ["t1", 7]},
            "tags",
            "the list has numbers, where those before have texts; write all ids of a list column alike.",
        ),
        ({"tags": "t1;t2"}, "tags", "'t1;t2' is no list; write a list of whole numbers or of texts."),
        (
            {"tags": ["t1", 1.5]},
            "tags",
            "'1.5' in the list is neither a whole number nor text; "
            "write a list of whole numbers or of texts.",
        ),
        (
            {"tags": ["t1", ["t2"]]},
            "tags",
            "\"['t2']\" in the list is neither a whole number nor text; "
            "write a list of whole numbers or of texts.",
        ),
    ],
)
def test_a_malformed_line_of_json_is_named(tmp_path, prepared, line, field, told):
    text = line if isinstance(line, str) else json.dumps({**PLAIN, **line})
    folder = json_lines(tmp_path, text)
    with pytest.raises(BadRowError) as error:
        prepared(folder, columns=COLUMNS, labels=LABELS)
    assert str(error.value) == f"{folder / 'views.jsonl'}, line 31, field {field!r}: {told}"
    assert (error.value.line, error.value.field) == (31, field)


def test_malformed_lines_of_json_are_set_aside_and_what_is_left_out_is_missing(tmp_path, prepared):
    short = {key: value for key, value in PLAIN.items() if key not in ("tags", "length", "author")}
    lines = ["{", json.dumps(short), json.dumps({**PLAIN, "tags": [None, ""]}), ""]
    store = prepared(json_lines(tmp_path, *lines), columns=COLUMNS, labels=LABELS, on_bad_row="skip")
    assert store.counts["bad rows set aside"] == 1
    assert store.counts["rows read"] == 33
    assert json.loads((store.path / "bad_rows.jsonl").read_text())["line"] == 31
    lengths = [np.diff(store.rows(split).lists[0][1]) for split in ("train", "validation", "test")]
    assert sorted(np.concatenate(lengths).tolist()) == [0, 0, *[1] * 30]
    missing = sum(store.counts.get(f"{split} rows without author", 0) for split in store.manifest["splits"])
    assert missing == 1


def test_texts_of_digits_in_json_are_texts_and_numbers_are_numbers(tmp_path, prepared):
    folder = json_lines(tmp_path, *(json.dumps({**PLAIN, "tags": ["7", "t1"]}) for _ in range(20)))
    store = prepared(folder, columns=COLUMNS, labels=LABELS)
    assert store.fitted.vocabularies["tags"].to_list() == ["7", "t1"]
    for name, tags in (("train", [3, 4]), ("test", ["3", "4"])):
        row = {"user": "a", "tags": tags, "liked": 1}
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(BadRowError, match=r"test.jsonl, line 1, field 'tags': the list has texts, where"):
        prepared(tmp_path, columns={"lists": ["tags"]}, labels={"like": "liked == 1"}, name="other")


def test_a_file_without_json_in_it_is_told(tmp_path, prepared):
    (tmp_path / "views.jsonl").write_text("user,liked\n1,2\n")
    with pytest.raises(CounterpointError, match=r"views.jsonl: there is no JSON object in it; write one on"):
        prepared(tmp_path, columns=COLUMNS, labels=LABELS)


def test_a_column_of_lists_that_is_named_an_id_is_told(tmp_path, prepared):
    frame = pl.DataFrame({"user": ["a"], "tags": [["b"]], "liked": [0]})
    frame.write_parquet(tmp_path / "views.parquet")
    with pytest.raises(CounterpointError, match=r"the column 'tags' holds lists; name it in columns.lists"):
        prepared(tmp_path, columns={"ids": ["tags"]}, labels={"like": "liked == 1"})


def test_numbers_not_finite_in_parquet_are_refused_too(tmp_path, prepared):
    frame = pl.DataFrame({"user": ["a", "b"], "x": [1.0, float("nan")], "liked": [0, 1]})
    frame.write_parquet(tmp_path / "views.parquet")
    with pytest.raises(BadRowError, match=r"views.parquet, line 2, field 'x': 'NaN' is no finite number"):
        prepared(tmp_path, columns={"numbers": ["x"]}, labels={"like": "liked == 1"})


def test_lists_of_numbers_and_of_texts_in_two_files_are_refused(tmp_path, prepared):
    for name, tags in (("train", [[1], [2]]), ("test", [["a"], ["b"]])):
        frame = pl.DataFrame({"user": ["a", "b"], "tags": tags, "liked": [0, 1]})
        frame.write_parquet(tmp_path / f"{name}.parquet")
    with pytest.raises(BadRowError, match=r"test.parquet, line 1, field 'tags': the list has texts"):
        prepared(tmp_path, columns={"lists": ["tags"]}, labels={"like": "liked == 1"})


def test_a_list_column_that_holds_no_lists_is_refused(tmp_path, prepared):
    pl.DataFrame({"user": ["a"], "tags": [3], "liked": [0]}).write_parquet(tmp_path / "views.parquet")
    with pytest.raises(CounterpointError, match="the list column 'tags' holds Int64, no lists"):
        prepared(tmp_path, columns={"lists": ["tags"]}, labels={"like": "liked == 1"})


@pytest.mark.parametrize(
    ("sections", "told"),
    [
        (
            {"columns": {**COLUMNS, "user": "usr"}, "labels": LABELS},
            "the user column 'usr' is missing (did you mean 'user'?); name it by columns.user",
        ),
        (
            {"columns": {**COLUMNS, "numbers": ["lenght"]}, "labels": LABELS},
            "no column 'lenght', which columns.numbers names (did you mean 'length'?)",
        ),
        ({"columns": COLUMNS, "labels": {"a": "plaid > 1"}}, "no column 'plaid', which labels.a names"),
        ({"columns": COLUMNS}, "no labels; the recipe must say what they are"),
        ({"labels": LABELS}, "no features; the recipe must name them"),
        (
            {"columns": {**COLUMNS, "numbers": ["liked"]}, "labels": LABELS},
            "the column 'liked' is a feature and alone decides the label 'like'",
        ),
    ],
)
def test_columns_that_do_not_fit_are_told(tmp_path, prepared, sections, told):
    (tmp_path / "views.csv").write_text(table(views(5)))
    with pytest.raises(UsageError) as error:
        prepared(tmp_path / "views.csv", **sections)
    assert told in str(error.value)


def test_without_users_every_row_counts_by_itself(tmp_path, prepared):
    (tmp_path / "views.csv").write_text(table(views(40)))
    store = prepared(
        tmp_path / "views.csv", columns={**COLUMNS, "user": "", "item": ""}, labels=LABELS, data={"core": 5}
    )
    assert store.unit == "rows"
    assert sum(store.manifest["splits"].values()) == 40  # there is nobody to filter by
    assert len(set(store.rows("train").users.tolist())) == 32


@pytest.mark.parametrize(("split", "key"), [("time", "columns.time"), ("users", "columns.user")])
def test_a_split_needs_its_column(tmp_path, prepared, split, key):
    (tmp_path / "views.csv").write_text(table(views(40)))
    columns = {**COLUMNS, "user": "", "item": ""}
    with pytest.raises(CounterpointError, match=key):
        prepared(tmp_path / "views.csv", columns=columns, labels=LABELS, data={"split": split})


def test_too_high_a_core_is_told(tmp_path, prepared):
    (tmp_path / "views.csv").write_text(table(views(30)))
    with pytest.raises(CounterpointError, match=r"no row stays with data.core = 99 .*lower it"):
        prepared(tmp_path / "views.csv", columns=COLUMNS, labels=LABELS, data={"core": 99})
    assert not (tmp_path / "store").exists()


def test_a_split_without_rows_is_told(tmp_path, prepared):
    (tmp_path / "views.csv").write_text(table(views(3)))
    with pytest.raises(CounterpointError, match="no row is left for the validation split"):
        prepared(tmp_path / "views.csv", columns=COLUMNS, labels=LABELS)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"tasks": ("like", "share")}, "the recipe has the task 'share'"),
        ({"labels": {"like": "liked > 0"}}, "prepared with labels ="),
        ({"columns": {**COLUMNS, "numbers": []}}, "prepared with columns.numbers = "),
        ({"data": {"min_count": 3}}, "prepared with data.min_count = 1, the recipe has 3"),
    ],
)
def test_a_store_refuses_a_recipe_that_it_was_not_made_for(store, changed, told):
    table = {"name": "test", "columns": COLUMNS, "labels": LABELS, "data": {"core": 1}}
    if "tasks" in changed:
        table.pop("labels")
    with pytest.raises(CounterpointError) as error:
        Store(store.path).require(FeedbackRecipe.model_validate({**table, **changed}))
    assert told in str(error.value)


def test_an_id_beyond_its_vocabulary_is_told(store):
    array = np.load(store.path / "arrays" / "test_ids.npy")
    array[0, 2] = 7
    np.save(store.path / "arrays" / "test_ids.npy", array)
    with pytest.raises(CounterpointError) as error:
        Store(store.path).rows("test")
    assert "split test, row 1, field 'author': the id 7 lies beyond the vocabulary" in str(error.value)
    assert "rows 0 to 2" in str(error.value)


def test_every_pass_tells_its_progress(given_split, tmp_path):
    told: dict[str, list[tuple[int, int]]] = {}

    def progress(label, done, total):
        told.setdefault(label, []).append((done, total))

    recipe = FeedbackRecipe.model_validate({"name": "test", "columns": COLUMNS, "labels": LABELS})
    prepare(find(given_split), tmp_path / "store", recipe, Preparation(progress=progress))
    assert [label for label in told if not label.startswith("reading")] == [
        "numbering users",
        "numbering items",
        "fitting columns",
        "measuring lists",
        "writing the store",
    ]
    assert (
        len(told["fitting columns"]) == 6 + 1
    )  # three columns of ids, one of lists, one of numbers, a quantile
    for steps in told.values():
        assert steps == sorted(steps)
        assert steps[-1][0] == steps[-1][1]
