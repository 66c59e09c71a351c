import json
import shutil

import pytest

from counterpoint.news.data import prepare as preparation
from counterpoint.storage.files import write_json
from samples import IMPRESSIONS, behaviors_row


def sentence(result, code):
    """Check that a command failed with one sentence and return it."""
    assert result.code == code, result
    lines = result.err.splitlines()
    assert lines[-1].startswith("counterpoint: "), result.err
    assert len([line for line in lines if line.startswith("counterpoint: ")]) == 1
    assert lines[-1].endswith("."), lines[-1]
    assert "Traceback" not in result.err
    return lines[-1]


@pytest.fixture
def bad_site(mind_folder):
    behaviors = [behaviors_row(number, *row) for number, row in enumerate(IMPRESSIONS, 1)]
    return mind_folder("bad", behaviors=[*behaviors[:4], "oops", *behaviors[5:]])


def test_a_bad_row_is_one_sentence_and_nothing_is_left(command, bad_site, tiny, cache, tmp_path):
    before = set(cache.rglob("*"))
    said = sentence(command("prepare", bad_site, *tiny, "--out", tmp_path / "store"), 1)
    assert "behaviors.tsv, line 5, field 'columns': 1 columns instead of 5; give it impression" in said
    sentence(command("train", "mtrec", "--data", bad_site, "--out", tmp_path / "run", *tiny), 1)
    assert [path.name for path in tmp_path.iterdir()] == ["bad"]
    assert {path for path in cache.rglob("*") if path.is_file()} <= before


def test_bad_rows_can_be_set_aside(command, bad_site, tiny, tmp_path):
    result = command("prepare", bad_site, *tiny, "--out", tmp_path / "store", "--on-bad-row", "skip")
    assert result.code == 0
    assert f"1 malformed rows were set aside in {tmp_path / 'store' / 'bad_rows.jsonl'}" in result.err
    assert json.loads((tmp_path / "store" / "bad_rows.jsonl").read_text())["row"] == "oops"


@pytest.mark.parametrize("place", ["first", "last"])
def test_debug_shows_the_traceback(place, command, bad_site, tiny, tmp_path):
    arguments = ["prepare", bad_site, *tiny, "--out", tmp_path / "store"]
    arguments = ["--debug", *arguments] if place == "first" else [*arguments, "--debug"]
    with pytest.raises(BaseException, match="1 columns instead of 5"):
        command(*arguments)


def test_data_that_is_not_there(command, tiny, tmp_path):
    said = sentence(
        command("train", "mtrec", "--data", tmp_path / "none", "--out", tmp_path / "run", *tiny), 2
    )
    assert f"{tmp_path / 'none'}: no such folder" in said
    assert not (tmp_path / "run").exists()


def test_an_encoder_that_is_not_there_fails_at_once(command, small_mind, tmp_path, monkeypatch):
    import huggingface_hub.constants

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("no network when offline"))
    said = sentence(
        command("prepare", small_mind, "--encoder", "no/such-encoder", "--out", tmp_path / "s"), 2
    )
    assert "encoder 'no/such-encoder' cannot be loaded" in said
    assert "minilm" in said


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("training.epoch=2", "did you mean 'epochs'"),
        ("training.epochs", "write it as key=value"),
        ("balance.method=pcgard", "pcgrad"),
        ("balance.scales=1", "scale"),
    ],
)
def test_a_wrong_setting_is_found_before_any_work(setting, message, command, small_mind, tmp_path):
    said = sentence(
        command("train", "mtrec", "--data", small_mind, "--out", tmp_path / "r", "--set", setting), 2
    )
    assert message in said
    assert not (tmp_path / "r").exists()


def test_an_unknown_recipe_and_a_broken_one(command, small_mind, tmp_path):
    said = sentence(command("train", "mtrek", "--data", small_mind), 2)
    assert "did you mean 'mtrec'" in said
    (tmp_path / "bad.toml").write_text("workload = = 'news'")
    said = sentence(command("train", tmp_path / "bad.toml", "--data", small_mind), 2)
    assert "bad.toml: not valid TOML" in said


def test_a_used_folder_is_refused(command, trained, small_mind, tiny):
    said = sentence(command("train", "mtrec", "--data", small_mind, "--out", trained, *tiny), 2)
    assert "choose another --out, or continue it with --resume" in said


def test_a_store_for_another_tokenizer(command, small_mind, tiny, tiny_encoder, tmp_path):
    other = tmp_path / "other-encoder"
    shutil.copytree(tiny_encoder, other)
    words = json.loads((other / "tokenizer_config.json").read_text())
    (other / "tokenizer_config.json").write_text(json.dumps({**words, "do_lower_case": False}))
    assert command("prepare", small_mind, *tiny, "--out", tmp_path / "store").code == 0
    again = ("train", "mtrec", "--data", tmp_path / "store", "--out", tmp_path / "run")
    said = sentence(command(*again, "--set", f"encoder.name={other}"), 1)
    assert "tokenised for" in said
    assert f"prepare the data again with the encoder {other}" in said
    longer = [*tiny, "--set", "data.max_title_tokens=30"]
    assert "prepared with data.max_title_tokens = 20, the recipe has 30" in sentence(
        command(*again, *longer), 1
    )


@pytest.fixture
def broken(trained, tmp_path):
    """A copy of the run that may be damaged."""
    shutil.copytree(trained, tmp_path / "run")
    return tmp_path / "run"


def test_a_run_of_another_version(command, broken):
    write_json(broken / "run.json", {**json.loads((broken / "run.json").read_text()), "format": 9})
    assert "a run of version 9" in sentence(command("evaluate", broken), 1)


def test_a_model_cut_short(command, broken):
    weights = broken / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    assert "model.safetensors: missing or cut short" in sentence(command("evaluate", broken), 1)


def test_a_checkpoint_cut_short(command, broken, tiny):
    facts = json.loads((broken / "run.json").read_text())
    write_json(broken / "run.json", {**facts, "status": "training"})
    (weights,) = broken.glob("checkpoints/*/model.safetensors")
    weights.write_bytes(weights.read_bytes()[:-100])
    arguments = ("train", "mtrec", "--data", facts["store"]["path"], "--out", broken, "--resume", *tiny)
    said = sentence(command(*arguments), 1)
    assert f"{weights}: missing or cut short" in said


def test_a_run_whose_store_is_gone(command, broken, tmp_path):
    facts = json.loads((broken / "run.json").read_text())
    write_json(broken / "run.json", {**facts, "store": {**facts["store"], "path": str(tmp_path / "gone")}})
    assert "is gone; say where the data are now, raw or prepared." in sentence(command("evaluate", broken), 2)


def test_what_is_no_run(command, tmp_path):
    for name in ("evaluate", "submit", "recommend", "export", "report"):
        assert "not a run folder" in sentence(command(name, tmp_path), 2)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("evaluate", "--split", "tset"), 2, "no split is called 'tset' (did you mean 'test'?)"),
        (("evaluate", "--split", "unlabelled"), 2, "no clicks to evaluate with; use counterpoint submit"),
        (("submit", "--split", "unlabelled"), 1, "no impressions in split 'unlabelled'"),
        (("recommend", "--history", "N1,N99"), 2, "no article 'N99' in "),
        (("recommend", "--history", "n11"), 2, "did you mean 'N1"),
        (("recommend", "--candidates", ""), 2, "there is nothing to rank"),
        (("export",), 2, "a run of news, which cannot be exported; give a run of feedback."),
    ],
)
def test_wrong_use_of_a_run(arguments, code, message, command, trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert message in sentence(command(arguments[0], trained, *arguments[1:]), code)
    assert list(tmp_path.iterdir()) == []


def test_an_article_written_without_a_title(command, trained):
    result = command("recommend", trained, "--article", "new")
    assert result.code == 2
    assert "'new' is not written ID=TITLE" in result.err


def test_an_interrupted_preparation_leaves_nothing(command, small_mind, tiny, tmp_path, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(preparation, "assign_splits", interrupt)
    said = sentence(command("prepare", small_mind, *tiny, "--out", tmp_path / "store"), 1)
    assert said == "counterpoint: interrupted; nothing half-written was left behind."
    assert [path.name for path in tmp_path.iterdir()] == ["small-mind"]


def test_an_interrupted_training_goes_on_where_it_stopped(command, trained, tiny, tmp_path, monkeypatch):
    from counterpoint.news.batches import TrainingBatches

    data, run = json.loads((trained / "run.json").read_text())["store"]["path"], tmp_path / "run"
    whole = TrainingBatches.batch

    def interrupt(batches, epoch, number, **share):
        if (epoch, number) == (1, 2):
            raise KeyboardInterrupt
        return whole(batches, epoch, number, **share)

    arguments = ("train", "mtrec", "--data", data, "--out", run, *tiny)
    with monkeypatch.context() as patch:
        patch.setattr(TrainingBatches, "batch", interrupt)
        said = sentence(command(*arguments), 1)
    assert "interrupted; the same command with --resume goes on from the last checkpoint" in said
    assert json.loads((run / "run.json").read_text())["status"] == "training"
    assert "--resume" in sentence(command(*arguments), 2)

    resumed = command(*arguments, "--resume")
    assert resumed.code == 0, resumed.err
    for name in ("balance.jsonl", "model/model.safetensors"):
        assert (run / name).read_bytes() == (trained / name).read_bytes()


def test_a_full_disk_in_the_middle_of_a_submission(command, trained, tmp_path, monkeypatch):
    import zipfile

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "open", full)
    said = sentence(command("submit", trained, "--out", tmp_path / "p.zip"), 1)
    assert "p.zip: writing failed (No space left on device)" in said
    assert list(tmp_path.iterdir()) == []


def test_what_nobody_foresaw_is_one_sentence_too(command, trained, monkeypatch):
    def fail(*_, **__):
        raise ZeroDivisionError("division\nby zero")

    monkeypatch.setattr("counterpoint.api.evaluate", fail)
    said = sentence(command("evaluate", trained), 1)
    assert "unexpected ZeroDivisionError (division by zero); run again with --debug" in said
