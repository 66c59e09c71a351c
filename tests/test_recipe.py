import pytest

from counterpoint import recipe
from counterpoint.api import read_recipe
from counterpoint.errors import UsageError


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
    assert (resolved.encoder.pooling, resolved.model.score, resolved.model.query_size) == ("cls", "dot", 200)


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
        ("model.score=cosine", "model.score: Input should be 'dot' or 'scaled_cosine'"),
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
