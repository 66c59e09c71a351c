"""A saved model says what it said before, whatever it is made of."""

import numpy as np
import pytest
import torch

from counterpoint.errors import CounterpointError
from counterpoint.sentences import workload
from counterpoint.sentences.evaluate import rows_of
from counterpoint.sentences.scoring import answers

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
    encoder = workload.recommender(loaded, resolved, store, tmp_path)
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


def test_the_metric_that_decides_is_that_of_the_trained_tasks(store, recipe):
    assert workload.trainee(recipe(), store).metric == "overall"
    baseline = workload.trainee(recipe(name="minbert-baseline"), store)
    assert (baseline.metric, baseline.target) == ("trained", "sentiment")
    assert {"trained", "overall", "similarity/spearman"} <= set(baseline.validate())


def test_an_incomplete_folder_is_one_sentence(store, recipe, tmp_path):
    workload.trainee(recipe(), store).save(tmp_path)
    (tmp_path / "encoder" / "config.json").unlink()
    with pytest.raises(CounterpointError, match="the encoder's configuration is missing; train again"):
        workload.load(tmp_path, recipe(), store)
