import pytest

from counterpoint.api import read_recipe
from counterpoint.errors import UsageError
from counterpoint.runs import recipe


@pytest.mark.parametrize("name", recipe.builtin_names())
def test_every_built_in_recipe_is_valid_and_survives_being_written(name, tmp_path):
    resolved = read_recipe(name)
    assert resolved.name == name
    assert resolved.summary
    file = tmp_path / "written.toml"
    file.write_text(recipe.to_toml(resolved), encoding="utf-8")
    assert read_recipe(file) == resolved


def test_mtrec_is_what_the_paper_says():
    resolved = read_recipe("mtrec-bert-base")
    assert resolved.tasks == ("click", "category", "entities")
    assert (resolved.balance.method, resolved.balance.options) == ("mtrec", {"scale": 0.3, "project": "both"})
    assert (resolved.training.learning_rate, resolved.training.batch_size) == (2e-5, 32)
    assert (resolved.data.max_title_tokens, resolved.data.max_history, resolved.data.negatives) == (20, 50, 4)
    assert (resolved.encoder.pooling, resolved.click.score, resolved.reader.query_size) == ("cls", "dot", 200)


def test_a_recipe_extends_another(tmp_path):
    (tmp_path / "base.toml").write_text('extends = "mtrec"\n[training]\nepochs = 7\n')
    (tmp_path / "mine.toml").write_text('extends = "base.toml"\n[balance]\nmethod = "pcgrad"\n')
    resolved = read_recipe(tmp_path / "mine.toml")
    assert (resolved.name, resolved.training.epochs, resolved.training.batch_size) == ("mine", 7, 16)
    assert resolved.balance.options == {}  # another method does not inherit MTRec's options


def test_settings_override_and_need_no_quotes():
    settings = [
        "training.epochs=1",
        "encoder.name=some/encoder",
        "training.clip_norm=2.5",
        "balance.scale=0.7",
    ]
    resolved = read_recipe("mtrec", settings, seed=4)
    assert resolved.training.epochs == 1
    assert resolved.encoder.name == "some/encoder"
    assert resolved.training.clip_norm == 2.5
    assert resolved.balance.options == {"scale": 0.7, "project": "both"}
    assert resolved.training.seed == 4
    assert read_recipe("mtrec", ["balance.method=equal"]).balance.options == {}
    assert read_recipe("mtrec", ['tasks=["click"]']).tasks == ("click",)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("training.epochs", r"--set training.epochs: write it as key=value, for example training.epochs=2"),
        ("=3", "write it as key=value"),
        ("training.epoch=2", r"recipe mtrec: unknown key 'training.epoch' \(did you mean 'epochs'\?\)"),
        ("trainign.epochs=2", r"unknown key 'trainign' \(did you mean 'training'\?\)"),
        ("training.epochs=many", r"training.epochs: Input should be a valid integer.* \(got 'many'\)"),
        ("training.epochs=0", "training.epochs: Input should be greater than or equal to 1"),
        ("training=3", r"training: .* \(got 3\)"),
        ("training.epochs.x=3", "training.epochs: "),
        ("click.score=cosine", "click.score: Input should be 'dot' or 'scaled_cosine'"),
        ('tasks=["category"]', "tasks must start with 'click'"),
        ("tasks=click", "tasks: "),
        ("workload=video", r"no workload is called 'video'"),
        ("balance.method=pcgard", r"recipe mtrec: balance: .*pcgrad"),
        ("balance.scales=1", r"recipe mtrec: balance: .*scale"),
        ("balance.scale=big", "recipe mtrec: balance: "),
        ("balance.project=sideways", "recipe mtrec: balance: "),
    ],
)
def test_a_wrong_setting_is_one_sentence(setting, message):
    with pytest.raises(UsageError, match=message) as caught:
        read_recipe("mtrec", [setting])
    assert "\n" not in str(caught.value)


def test_the_ranges_of_a_search_may_be_written_with_and_without_quotes(tmp_path):
    rates = "learning_rate = {low = 1e-5, high = 1e-3, log = true}"
    (tmp_path / "a.toml").write_text(
        f'extends = "popularity"\n[tune]\ntraining.{rates}\n"balance.scale" = [0.1, 0.3]\n'
    )
    (tmp_path / "b.toml").write_text(
        f'extends = "popularity"\n[tune.training]\n{rates}\n[tune.balance]\nscale = [0.1, 0.3]\n'
    )
    resolved = read_recipe(tmp_path / "a.toml")
    assert resolved.tune == read_recipe(tmp_path / "b.toml").tune
    assert resolved.tune == {
        "training.learning_rate": recipe.Range(low=1e-5, high=1e-3, log=True),
        "balance.scale": [0.1, 0.3],
    }
    # A setting adds a range or replaces one.
    added = read_recipe(tmp_path / "a.toml", ["tune.training.epochs=[1, 2]", "tune.balance.scale=[0.5]"]).tune
    assert added["training.epochs"] == [1, 2]
    assert added["balance.scale"] == [0.5]
    assert added.keys() == {*resolved.tune, "training.epochs"}
    (tmp_path / "a.toml").write_text(recipe.to_toml(resolved))
    assert read_recipe(tmp_path / "a.toml") == resolved
    assert "tune" not in recipe.to_toml(read_recipe("popularity"))


def test_a_search_adds_to_the_one_it_extends(tmp_path):
    (tmp_path / "mine.toml").write_text(
        'extends = "mtrec"\n[tune.training]\nepochs = [2, 4]\n[tune.balance]\nscale = [0.1, 0.3]\n'
    )
    above = read_recipe("mtrec").tune
    mine = read_recipe(tmp_path / "mine.toml").tune
    assert above["training.epochs"] == recipe.Range(low=1, high=5)
    assert mine == {**above, "training.epochs": [2, 4], "balance.scale": [0.1, 0.3]}


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            "tune.training.learning_rat=[1]",
            r"no key 'training.learning_rat' \(did you mean 'training.learning_rate'\?\)",
        ),
        ("tune.trainin.epochs=[1]", r"no key 'trainin.epochs' \(did you mean 'training.epochs'\?\)"),
        ("tune.training.epochs=[]", "'training.epochs' has no choices"),
        ("tune.training.epochs={low=2, high=2}", "low must be below high; 2 is not below 2"),
        ("tune.training.warmup={low=0, high=1, log=true}", "log needs a positive low and no step"),
        ("tune.training.epochs={low=1, hihg=2}", "tune.training.epochs"),
        ("tune.training.epochs=3", "tune.training.epochs"),
    ],
)
def test_a_wrong_search_is_one_sentence(setting, message):
    with pytest.raises(UsageError, match=message) as caught:
        read_recipe("mtrec", [setting])
    assert "\n" not in str(caught.value)


def test_a_recipe_that_is_not_there(tmp_path):
    with pytest.raises(
        UsageError, match=r"no recipe is called 'mtrek' \(did you mean 'mtrec'\?\); built in: .*bert"
    ):
        read_recipe("mtrek")
    with pytest.raises(UsageError, match=r"nowhere.toml: cannot be read as a recipe"):
        read_recipe(tmp_path / "nowhere.toml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epochs == 3", r"bad.toml: not valid TOML \(.*line 1.*\); correct that line"),
        ('extends = "bad.toml"', r"bad.toml: extends 'bad.toml', which extends it in turn; break the circle"),
        ('extends = "none"', "no recipe is called 'none'"),
        ("summary = 'no workload'", "no workload is called 'None'"),
        ('workload = "news"\nspeed = 3', r"recipe .*bad.toml: unknown key 'speed'"),
        ('workload = "news"\nname = 3', r"name: Input should be a valid string \(got 3\)"),
    ],
)
def test_a_broken_recipe_file_is_one_sentence(text, message, tmp_path):
    (tmp_path / "bad.toml").write_text(text)
    with pytest.raises(UsageError, match=message) as caught:
        read_recipe(tmp_path / "bad.toml")
    assert "\n" not in str(caught.value)


def test_a_recipe_that_is_not_text(tmp_path):
    (tmp_path / "bad.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="cannot be read as a recipe"):
        read_recipe(tmp_path / "bad.toml")


def test_a_range_replaces_the_parents_range_whole(tmp_path):
    (tmp_path / "mine.toml").write_text(
        'extends = "mtrec"\n[tune]\n"training.learning_rate" = { low = 0.0, high = 1e-3 }\n'
    )
    resolved = read_recipe(tmp_path / "mine.toml")
    assert resolved.tune["training.learning_rate"].log is False
    assert resolved.tune["training.head_learning_rate"].log is True
