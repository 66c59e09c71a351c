"""The simulated shop is what it says: its log follows the rates stated beside it."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from counterpoint.behaviors.data.truth import Truth
from counterpoint.errors import UsageError
from counterpoint.simulation.shop import log as simulation
from counterpoint.simulation.shop.log import simulate
from peaks import peak_megabytes

START = 1_761_955_200
DAY = 86_400
AUXILIARIES = ("click", "favourite", "cart")


@dataclass(frozen=True)
class Shop:
    folder: Path
    counts: dict[str, int]

    @cached_property
    def log(self) -> pl.DataFrame:
        return pl.read_parquet(self.folder / "interactions.parquet")

    @cached_property
    def numbers(self) -> pl.DataFrame:
        number = pl.all().str.slice(1).cast(pl.Int64)
        return self.log.with_columns(self.log.select("user", "item").select(number))

    @cached_property
    def truth(self) -> Truth:
        return Truth(self.folder / "truth")

    def pairs(self, behaviour: str) -> np.ndarray:
        """How often each user (row) does it with each item (column)."""
        rows = self.numbers.filter(pl.col("behavior") == behaviour)
        shape = tuple(len(np.load(self.folder / "truth" / f"{name}.npy")) for name in ("users", "items"))
        found = np.zeros(shape, int)
        np.add.at(found, (rows["user"].to_numpy(), rows["item"].to_numpy()), 1)
        return found


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def agrees(found: np.ndarray, expected: np.ndarray, variance: np.ndarray) -> bool:
    """Whether a sum of independent counts is within four standard deviations of what is expected."""
    return bool(abs(found.sum() - expected.sum()) < 4 * np.sqrt(variance.sum()))


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    folder = tmp_path_factory.mktemp("simulated") / "shop"
    return Shop(folder, simulate(folder, seed=1).counts)


@pytest.fixture(scope="module")
def extremes(tmp_path_factory: pytest.TempPathFactory) -> dict[float, Shop]:
    shops = {}
    for relevance in (0.0, 1.0):
        folder = tmp_path_factory.mktemp("simulated") / "shop"
        shops[relevance] = Shop(
            folder,
            simulate(folder, users=1_000, items=400, seed=2, click_relevance=relevance).counts,
        )
    return shops


def test_the_folder_holds_the_files_and_says_that_they_are_simulated(shop: Shop) -> None:
    assert sorted(contents(shop.folder)) == [
        *("README.md", "interactions.parquet", "simulation.json"),
        *("truth/items.npy", "truth/law.json", "truth/users.npy"),
    ]
    assert "Everything in this folder is simulated" in (shop.folder / "README.md").read_text()
    described = json.loads((shop.folder / "simulation.json").read_text())
    assert described["simulated"] is True
    assert described["parameters"] == {
        **{"users": 2_000, "items": 1_500, "seed": 1, "days": 14},
        **{"interactions_per_user": 120.0, "click_relevance": 0.5},
    }
    assert described["counts"] == shop.counts
    assert described["law"] == json.loads((shop.folder / "truth" / "law.json").read_text())


def test_the_log_has_four_columns_sorted_by_user_and_time(shop: Shop) -> None:
    assert shop.log.schema == {
        "user": pl.String(),
        "item": pl.String(),
        "behavior": pl.String(),
        "time": pl.Int64(),
    }
    assert shop.log.null_count().sum_horizontal().item() == 0
    assert shop.log.select("user", "time").equals(shop.log.select("user", "time").sort("user", "time"))
    assert shop.log["user"].str.contains(r"^u0[01]\d{3}$").all()
    assert shop.log["item"].str.contains(r"^i0[01]\d{3}$").all()
    assert set(shop.log["behavior"]) == {"click", "favourite", "cart", "buy"}
    assert shop.log["time"].is_between(START, START + 14 * DAY, closed="left").all()


def test_the_counts_are_those_of_the_log(shop: Shop) -> None:
    pairs = shop.log.select("user", "item", "behavior").unique()
    bought, clicked = (pairs.filter(pl.col("behavior") == name) for name in ("buy", "click"))
    rows = {name: len(group) for (name,), group in shop.log.group_by("behavior")}
    assert shop.counts == {
        "users": shop.log["user"].n_unique(),
        "items": shop.log["item"].n_unique(),
        "interactions": len(shop.log),
        **rows,
        "pairs bought": len(bought),
        "pairs bought and clicked": len(bought.join(clicked, on=["user", "item"], how="semi")),
    }


def test_volumes_are_those_of_paper_4s_data(shop: Shop) -> None:
    """Table 5 has, for a pair bought in UserBehavior-2017, 4.41 clicked, 0.60 carted and 0.22 favourites."""
    assert 110 < shop.counts["interactions"] / 2_000 < 130
    pairs = shop.log.select("user", "item", "behavior").unique()
    heavy = pairs.filter(pl.col("behavior") == "buy").group_by("user").len().filter(pl.col("len") >= 10)
    kept = pairs.join(heavy, on="user", how="semi").group_by("behavior").len()
    volume = dict(kept.iter_rows())
    assert 4.0 < volume["click"] / volume["buy"] < 5.2
    assert 0.5 < volume["cart"] / volume["buy"] < 0.7
    assert 0.2 < volume["favourite"] / volume["buy"] < 0.4


def test_most_purchases_have_a_click_on_the_same_pair_and_some_have_none(shop: Shop) -> None:
    """In the real log of IJCAI-15 86 % have."""
    assert 0.84 < shop.counts["pairs bought and clicked"] / shop.counts["pairs bought"] < 0.92


def test_pairs_are_clicked_and_bought_again(shop: Shop) -> None:
    for behaviour, least, most in (("click", 1.1, 1.4), ("buy", 1.03, 1.15)):
        counts = shop.pairs(behaviour)
        assert least < counts.sum() / (counts > 0).sum() < most


def test_purchases_follow_their_click_by_minutes_or_by_days(shop: Shop) -> None:
    once = pl.col("time").count().over("user", "item", "behavior") == 1
    log = shop.log.filter(once)
    clicked, bought = (log.filter(pl.col("behavior") == name) for name in ("click", "buy"))
    both = bought.join(clicked, on=["user", "item"], suffix="_click")
    delay = (both["time"] - both["time_click"]).to_numpy()
    # A lone click may be another visit's: only then can it come after the purchase.
    assert np.mean(delay < 0) < 0.06
    assert 900 < np.median(delay[delay >= 0]) < 2_400
    assert 0.01 < np.mean(delay > DAY) < 0.1


def test_the_truth_is_the_law_that_the_module_states(shop: Shop) -> None:
    """Written again with nothing but the files and the formulas."""
    law = json.loads((shop.folder / "truth" / "law.json").read_text())
    users = np.load(shop.folder / "truth" / "users.npy", allow_pickle=False).astype(float)
    items = np.load(shop.folder / "truth" / "items.npy", allow_pickle=False).astype(float)
    assert users.shape == (2_000, 25)
    assert items.shape == (1_500, 26)
    np.testing.assert_allclose(np.linalg.norm(items[:, :12], axis=1), 1, rtol=1e-5)
    ranks = np.sort(np.exp(-2 * items[:, 24]))
    np.testing.assert_allclose(ranks, np.arange(1, 1_501), rtol=1e-4)

    for user in (0, 1_999):
        affinity = items[:, :12] @ users[user, :12]
        wish = np.exp(items[:, 24] + 1.5 * affinity)
        whim = np.exp(items[:, 25] + 1.5 * items[:, 12:24] @ users[user, 12:24])
        stroll = wish**0.5 * whim ** np.sqrt(0.75)
        rates = shop.truth.rates(np.array([user]))
        visits = users[user, 24]
        np.testing.assert_allclose(rates.errands[0], 0.3 * visits * wish / wish.sum(), rtol=1e-3)
        np.testing.assert_allclose(rates.strolls[0], 0.7 * visits * stroll / stroll.sum(), rtol=1e-3)
        for behaviour, slope in (("favourite", 1.0), ("cart", 1.5), ("buy", 1.5)):
            logged = 1 / (1 + np.exp(-law["bases"][behaviour] - slope * affinity))
            expected = 0.3 * visits * wish / wish.sum() * logged
            np.testing.assert_allclose(
                shop.truth.probability(np.array([user]), behaviour)[0], 1 - np.exp(-expected), rtol=2e-3
            )


@pytest.mark.parametrize("behaviour", ["click", "favourite", "cart", "buy"])
def test_every_behaviour_is_as_frequent_as_the_truth_says(shop: Shop, behaviour: str) -> None:
    found = shop.pairs(behaviour)
    everyone = np.arange(2_000)
    expected = shop.truth.rates(everyone).expected(behaviour, shop.truth.law)
    assert agrees(found, expected, expected)
    # By how much is expected: an error in the popularity, the taste or the funnel alone would show.
    order = np.argsort(expected, axis=None)
    for part in np.array_split(order, 20):
        assert agrees(found.ravel()[part], expected.ravel()[part], expected.ravel()[part])

    probability = shop.truth.probability(everyone, behaviour).ravel()
    for part in np.array_split(order, 20):
        chance = probability[part]
        assert agrees(found.ravel()[part] > 0, chance, chance * (1 - chance))


@pytest.mark.parametrize("behaviour", ["click", "buy"])
def test_every_item_is_met_as_often_as_the_truth_says(shop: Shop, behaviour: str) -> None:
    found = shop.pairs(behaviour).sum(axis=0)
    expected = shop.truth.rates(np.arange(2_000)).expected(behaviour, shop.truth.law).sum(axis=0)
    squares = (found - expected) ** 2 / expected
    # For a Poisson number of mean m they have the mean 1 and the variance 2 + 1/m.
    assert abs(squares.sum() - 1_500) < 4 * np.sqrt((2 + 1 / expected).sum())


def test_pairs_are_bought_independently_of_each_other(shop: Shop) -> None:
    """Poisson numbers: a user's purchases vary as much as there are."""
    found = shop.pairs("buy").sum(axis=1)
    expected = shop.truth.rates(np.arange(2_000)).expected("buy", shop.truth.law).sum(axis=1)
    squares = (found - expected) ** 2 / expected
    assert abs(squares.sum() - 2_000) < 4 * np.sqrt((2 + 1 / expected).sum())


def test_a_pair_without_purchase_is_met_as_often_as_expected(shop: Shop) -> None:
    everyone, law = np.arange(2_000), shop.truth.law
    rates = shop.truth.rates(everyone)
    bought, met = shop.pairs("buy") > 0, np.zeros((2_000, 1_500), bool)
    for others in (("cart",), ("click",), AUXILIARIES):
        met = np.any([shop.pairs(name) > 0 for name in others], axis=0)
        expected = rates.expected_without("buy", others, law)
        chance = np.where(bought, 0, -np.expm1(-expected))
        assert agrees(met & ~bought, chance, chance * (1 - chance))
    assert rates.expected_without("buy", (), law).max() == 0


def test_purchases_are_the_same_whatever_the_clicks_come_from(extremes: dict[float, Shop]) -> None:
    unrelated, same = (
        shop.log.filter(pl.col("behavior") != "click").sort(pl.all()) for shop in extremes.values()
    )
    assert unrelated.equals(same)
    assert not extremes[0.0].log.equals(extremes[1.0].log)


def test_strolls_follow_the_wishes_of_errands_only_as_far_as_asked(extremes: dict[float, Shop]) -> None:
    def within_users(rates: np.ndarray) -> np.ndarray:
        return np.log(rates) - np.log(rates).mean(axis=1, keepdims=True)

    alike = {}
    for relevance, shop in extremes.items():
        rates = shop.truth.rates(np.arange(1_000))
        np.testing.assert_allclose(rates.strolls.sum(), 0.7 / 0.3 * rates.errands.sum(), rtol=1e-4)
        pair = within_users(rates.strolls).ravel(), within_users(rates.errands).ravel()
        alike[relevance] = np.corrcoef(*pair)[0, 1]
    assert alike[1.0] == pytest.approx(1, abs=1e-5)
    assert abs(alike[0.0]) < 0.05


def test_clicks_tell_of_purchases_only_as_far_as_asked(extremes: dict[float, Shop]) -> None:
    """Of pairs that were not bought: does a click say that the user would?"""
    lift = {}
    for relevance, shop in extremes.items():
        chance = shop.truth.probability(np.arange(1_000))
        rest = shop.pairs("buy") == 0
        clicked = shop.pairs("click") > 0
        lift[relevance] = chance[rest & clicked].mean() / chance[rest & ~clicked].mean()
    assert lift[1.0] > 2 * lift[0.0] > 1


def test_same_arguments_same_bytes(tmp_path: Path) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        simulate(tmp_path / name, users=100, items=50, seed=seed)
    first, again, other = (contents(tmp_path / name) for name in "abc")
    assert first == again
    assert all(first[name] != other[name] for name in first)


def test_how_the_work_is_divided_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[tuple[str, int, int]] = []
    simulate(tmp_path / "whole", users=150, items=50)
    monkeypatch.setattr(simulation, "ROWS_PER_PART", 1_000)
    simulate(tmp_path / "parts", users=150, items=50, progress=lambda *told: done.append(told))
    whole, parts = (pl.read_parquet(tmp_path / name / "interactions.parquet") for name in ("whole", "parts"))
    assert whole.equals(parts)
    assert contents(tmp_path / "whole" / "truth") == contents(tmp_path / "parts" / "truth")
    assert done[-1] == ("simulating users", 150, 150)
    assert [step[1] for step in done] == [32, 64, 96, 128, 150]


def test_more_users_leave_the_others_as_they_are(tmp_path: Path) -> None:
    few, many = (
        Shop(tmp_path / str(users), simulate(tmp_path / str(users), users=users, items=50).counts)
        for users in (45, 70)
    )
    assert many.log.filter(pl.col("user") < "u00045").equals(few.log)
    assert many.counts["users"] == 70
    users = [np.load(shop.folder / "truth" / "users.npy") for shop in (few, many)]
    np.testing.assert_array_equal(users[0], users[1][:45])


@pytest.mark.slow
def test_ids_sort_as_their_numbers_however_many(tmp_path: Path) -> None:
    simulate(tmp_path / "shop", users=1, items=100_001, interactions_per_user=1_000)
    items = pl.read_parquet(tmp_path / "shop" / "interactions.parquet")["item"]
    assert items.str.contains(r"^i\d{6}$").all()


def test_sizes_shape_the_shop(tmp_path: Path) -> None:
    counts = simulate(tmp_path / "shop", users=300, items=2, days=1, interactions_per_user=10).counts
    shop = Shop(tmp_path / "shop", counts)
    assert counts["items"] == 2
    assert 2_400 < counts["interactions"] < 3_600
    assert shop.log["time"].is_between(START, START + DAY, closed="left").all()


def test_a_user_who_never_comes_is_not_in_the_log(tmp_path: Path) -> None:
    """Of a single user nothing is left then."""
    for seed in range(20):
        counts = simulate(
            tmp_path / "shop", users=1, items=5, interactions_per_user=1, seed=seed, overwrite=True
        ).counts
        log = pl.read_parquet(tmp_path / "shop" / "interactions.parquet")
        assert len(log) == counts["interactions"]
        assert log.schema["user"] == pl.String()
        if counts["users"] == 0:
            return
    pytest.fail("no seed gave an empty log")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"users": 0}, "users is 0; give at least 1."),
        ({"items": 1}, "items is 1; give at least 2."),
        ({"seed": -1}, "seed is -1; give at least 0."),
        ({"days": 0}, "days is 0; give at least 1."),
        ({"interactions_per_user": 0.5}, "interactions_per_user is 0.5; give a number from 1 to 10000."),
        (
            {"interactions_per_user": float("inf")},
            "interactions_per_user is inf; give a number from 1 to 10000.",
        ),
        ({"click_relevance": 1.5}, "click_relevance is 1.5; give a number from 0 to 1."),
        ({"click_relevance": -0.1}, "click_relevance is -0.1; give a number from 0 to 1."),
        ({"click_relevance": float("nan")}, "click_relevance is nan; give a number from 0 to 1."),
    ],
)
def test_bad_sizes_are_named_with_what_is_allowed(
    tmp_path: Path, options: dict[str, float], sentence: str
) -> None:
    with pytest.raises(UsageError) as caught:
        simulate(tmp_path / "shop", **options)
    assert str(caught.value) == sentence
    assert not (tmp_path / "shop").exists()


def test_an_existing_folder_is_replaced_only_when_asked(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(UsageError) as caught:
        simulate(tmp_path, users=1)
    assert str(caught.value) == (
        f"{tmp_path}: something is there already; choose another folder or allow overwriting."
    )
    with pytest.raises(UsageError, match="something is there already"):
        simulate(tmp_path / "mine.txt", users=1, overwrite=True)
    assert (tmp_path / "mine.txt").read_text() == "precious"

    (tmp_path / "empty").mkdir()
    assert simulate(tmp_path / "empty", users=1, items=5).folder == tmp_path / "empty"
    simulate(tmp_path / "empty", users=2, items=5, overwrite=True)
    assert json.loads((tmp_path / "empty" / "simulation.json").read_text())["parameters"]["users"] == 2


@pytest.mark.slow
def test_memory_does_not_grow_with_the_users(tmp_path: Path) -> None:
    program = (
        "from pathlib import Path; from counterpoint.simulation.shop.log import simulate; "
        "simulate(Path({out!r}), users={users}, items=300)"
    )
    peaks = [
        peak_megabytes(program, out=str(tmp_path / str(users)), users=users) for users in (20_000, 60_000)
    ]
    assert peaks[1] < peaks[0] + 100
