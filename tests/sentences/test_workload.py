"""A saved model says what it said before, whatever it is made of."""

import numpy as np
import pytest
import torch

from counterpoint.errors import CounterpointError, UsageError
from counterpoint.sentences import workload
from counterpoint.sentences.data.layout import find
from counterpoint.sentences.data.prepare import prepare
from counterpoint.sentences.evaluate import rows_of
from counterpoint.sentences.model import SentenceModel, fresh, save
from counterpoint.sentences.scoring import answers
from counterpoint.workload import Preparation

KINDS = {
    "apart": [],
    "joint": ["task.paraphrase.pair=joint", "task.similarity.pair=joint"],
    "temperature": ["task.similarity.pair=learned_cosine", "encoder.pooling=mean"],
    "lora": ["encoder.lora={rank=2, targets='linear'}", "encoder.pooling=cls"],
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_survives_being_saved(store, recipe, tmp_path, kind):
    resolved = recipe(*KINDS[kind])
    made = workload.trainee(resolved, store)
    with torch.no_grad():
        for parameter in made.model.parameters():
            if parameter.requires_grad:
                parameter += 0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    made.save(tmp_path)
    assert not list(tmp_path.glob("**/*.bin"))
    loaded = workload.load(tmp_path, resolved, store)
    rows = rows_of(resolved, store, "validation")
    before, after = (answers(model, store, resolved.task, rows) for model in (made.model, loaded))
    for name in rows:
        np.testing.assert_array_equal(before[name].values, after[name].values)
        assert np.isfinite(before[name].values).all()
    encoder = workload.WORKLOAD.capabilities.embed(tmp_path, resolved)
    texts = store.texts(rows["sentiment"].sentences[0])
    expected = [
        value == truth
        for value, truth in zip(
            encoder.answers("sentiment", texts).values, before["sentiment"].values, strict=True
        )
    ]
    assert all(expected)


def test_the_seed_decides_what_a_model_begins_with(store, recipe):
    one, same, other = (
        workload.trainee(recipe(f"training.seed={seed}"), store).model.state_dict() for seed in (3, 3, 4)
    )
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["heads.0.output.weight"], other["heads.0.output.weight"])


def test_the_target_does_not_change_what_a_model_begins_with(store, recipe):
    one, other = (
        workload.trainee(recipe(*settings), store)
        for settings in ([], ['tasks=["similarity", "paraphrase", "sentiment"]'])
    )
    assert (one.target, other.target) == ("sentiment", "similarity")
    assert one.model.tasks == other.model.tasks == ("sentiment", "paraphrase", "similarity")
    begun = other.model.state_dict()
    assert all(torch.equal(values, begun[name]) for name, values in one.model.state_dict().items())
    # Values written down once: who trains again with an old seed begins with the same heads.
    heads = {name: one.model.head(name).output.weight.flatten()[:3].tolist() for name in one.model.tasks[:2]}
    assert heads == {
        "sentiment": pytest.approx([-0.0013234953, 0.0948307216, -0.1454951912]),
        "paraphrase": pytest.approx([0.0016165227, -0.0567843616, 0.0470874012]),
    }


def test_a_model_saved_with_its_heads_in_another_order_is_read_as_it_was(store, recipe, tmp_path):
    resolved = recipe("task.similarity.pair=concatenation")
    made = SentenceModel(
        fresh(resolved).encoder,
        {name: fresh(resolved).head(name) for name in ("similarity", "sentiment", "paraphrase")},
    )
    save(made, resolved, tmp_path)
    rows = rows_of(resolved, store, "validation")
    before, after = (
        answers(model, store, resolved.task, rows)
        for model in (made, workload.load(tmp_path, resolved, store))
    )
    for name in rows:
        np.testing.assert_array_equal(before[name].values, after[name].values)


def test_the_metric_that_decides_is_that_of_the_trained_tasks(store, recipe):
    assert workload.trainee(recipe(), store).metric == "overall"
    baseline = workload.trainee(recipe(name="minbert-baseline"), store)
    assert (baseline.metric, baseline.target) == ("trained", "sentiment")
    assert {"trained", "overall", "similarity/spearman"} <= set(baseline.validate())


def test_whoever_trains_is_told_of_what_is_cut(store, course, recipe, tokenizer, tmp_path):
    assert list(workload.trainee(recipe(), store).notes) == []
    short = recipe("data.max_tokens=8")
    cut = prepare(find(course, short), tmp_path / "store", tokenizer, short, Preparation())
    number, every = cut.counts["sentences cut"], cut.counts["distinct sentences"]
    assert 1 < number < every
    assert list(workload.trainee(short, cut).notes) == [
        f"{number} of {every} sentences were cut at 8 word pieces; raise data.max_tokens to read more of "
        "them."
    ]


def test_what_is_no_list_of_texts_is_refused(store, recipe, tmp_path):
    made = workload.trainee(recipe(), store)
    made.save(tmp_path)
    encoder = workload.WORKLOAD.capabilities.embed(tmp_path, recipe())
    for given, message in (
        ("hello", "one text is given where sentences are asked for; put it into a list"),
        (["a", None], r"sentence 2 is no text \('None'\); leave it out"),
        ([b"a"], r"sentence 1 is no text"),
        ([], "no sentence is given"),
    ):
        with pytest.raises(UsageError, match=message):
            encoder.embed(given)
        with pytest.raises(UsageError, match=message):
            encoder.answers("sentiment", given)
    with pytest.raises(UsageError, match="sentence 1 is no text"):
        encoder.similarity("a", None)
    assert encoder.embed(np.array(["a", "b"])).shape == (2, 32)


def test_an_incomplete_folder_is_one_sentence(store, recipe, tmp_path):
    workload.trainee(recipe(), store).save(tmp_path)
    (tmp_path / "encoder" / "config.json").unlink()
    with pytest.raises(CounterpointError, match="the encoder's configuration is missing; train again"):
        workload.load(tmp_path, recipe(), store)
