import numpy as np
import pytest

from samples import IMPRESSIONS, behaviors_row, write_mind

ROWS = [behaviors_row(number, *row) for number, row in enumerate(IMPRESSIONS, 1)]
UNTOLD = [row.replace("-0", "").replace("-1", "") for row in ROWS]


def part(folder, role, behaviors):
    write_mind(folder / role, behaviors=behaviors)
    return folder


def sizes(store):
    return tuple(store.manifest["splits"].values())


def test_train_and_dev(tmp_path, prepared):
    folder = part(part(tmp_path / "mind", "train", ROWS[:15]), "dev", ROWS[15:])
    store = prepared(folder)

    assert sizes(store) == (11, 4, 5, 0)
    assert store.impression_ids(store.split("validation")) == ["12", "13", "14", "15"]
    assert store.impression_ids(store.split("test")) == ["16", "17", "18", "19", "20"]
    assert store.manifest["split rule"] == "last 1 training day(s): validation; dev folder: test"
    assert store.counts["duplicate articles"] == 12  # the dev folder repeats them


def test_a_labelled_test_folder_makes_dev_validate(tmp_path, prepared):
    folder = part(part(part(tmp_path / "mind", "train", ROWS[:11]), "dev", ROWS[11:15]), "test", ROWS[15:])
    assert sizes(prepared(folder)) == (11, 4, 5, 0)


def test_an_unlabelled_test_folder_is_set_apart(tmp_path, prepared):
    folder = part(part(part(tmp_path / "mind", "train", ROWS[:15]), "dev", ROWS[15:]), "test", UNTOLD[15:])
    store = prepared(folder)

    assert sizes(store) == (11, 4, 5, 5)
    unlabelled = store.impressions(store.split("unlabelled"))
    assert set(unlabelled.clicked.tolist()) == {-1}
    labelled = store.impressions(store.split("test"))
    assert unlabelled.candidates.tolist() == labelled.candidates.tolist()
    assert store.counts["clicks"] == 21


def test_two_days_of_each(small_mind, prepared):
    assert sizes(prepared(small_mind, validation_days=2)) == (5, 10, 5, 0)
    assert sizes(prepared(small_mind, "other", test_days=2)) == (5, 6, 9, 0)


def test_a_single_training_day_gives_its_last_tenth(tmp_path, prepared):
    behaviors = [behaviors_row(n, 11, n, "U1", "", "N1-1 N2-0") for n in range(1, 21)]
    folder = part(part(tmp_path / "mind", "train", behaviors), "dev", ROWS[15:])
    store = prepared(folder)
    assert sizes(store) == (18, 2, 5, 0)
    assert store.manifest["split rule"].startswith("only 1 day(s): last tenth by time validates")


@pytest.mark.parametrize("order", [1, -1])
def test_too_few_days_are_split_by_time_whatever_the_order(order, mind_folder, prepared):
    behaviors = [behaviors_row(n, 11 + n // 12, n % 12, "U1", "", "N1-1 N2-0") for n in range(1, 21)][::order]
    store = prepared(mind_folder("few", behaviors=behaviors))
    assert sizes(store) == (16, 2, 2, 0)
    time = store._array("time")
    assert time[store.split("train")].max() < time[store.split("validation")].min()
    assert time[store.split("validation")].max() < time[store.split("test")].min()


def test_rows_need_not_stand_in_the_order_of_time(mind_folder, prepared):
    shuffled = list(np.random.default_rng(0).permutation(ROWS))
    store = prepared(mind_folder("shuffled", behaviors=shuffled))
    assert sorted(map(int, store.impression_ids(store.split("test")))) == [16, 17, 18, 19, 20]
