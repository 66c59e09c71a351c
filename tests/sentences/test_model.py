"""The model: heads on one encoder, joint pairs, LoRA, and answers that do not depend on the packing."""

import numpy as np
import pytest
import torch
from transformers import AutoModel

from counterpoint.errors import UsageError
from counterpoint.sentences.batches import task_batch
from counterpoint.sentences.model import fresh, untrained
from counterpoint.sentences.scoring import answers


@pytest.fixture
def model(recipe):
    def make(*settings, name="minbert-final"):
        torch.manual_seed(0)
        return fresh(recipe(*settings, name=name)).eval()

    return make


def test_pairs_answered_jointly_are_those_of_hugging_face(store, recipe, model, tiny_encoder, tokenizer):
    resolved = recipe(name="sentences-cross")
    made = model(name="sentences-cross")
    rows = store.rows("similarity", "test").of(np.arange(6))
    told = answers(made, store, resolved.task, {"similarity": rows})["similarity"].values
    plain = AutoModel.from_pretrained(tiny_encoder).eval()
    head = made.head("similarity").output
    for row, (first, second) in enumerate(zip(*map(store.texts, rows.sentences), strict=True)):
        given = tokenizer.pretrained(first, second, return_tensors="pt")
        assert given["token_type_ids"].any()
        with torch.no_grad():
            vector = plain(**given).last_hidden_state[:, 0]
            score = 5 * (vector @ head.weight.T + head.bias)
        assert told[row] == pytest.approx(score.item(), abs=1e-4)


def test_losses_are_the_heads_on_each_sentences_vector(store, recipe, model):
    made, resolved = model(), recipe()
    for task in resolved.tasks:
        rows = store.rows(task, "train").of(np.arange(5))
        batch = task_batch(store, resolved, task, rows)
        assert list(made.losses(batch)) == [task]
        vectors = made.vectors(batch.texts)
        alone = made.head(task).loss([vectors[side] for side in batch.sides], batch.labels)
        torch.testing.assert_close(made.losses(batch)[task], alone)


def test_a_task_reaches_its_own_head_and_the_encoder_alone(store, recipe, model):
    made, resolved = model(), recipe()
    batch = task_batch(store, resolved, "paraphrase", store.rows("paraphrase", "train").of(np.arange(4)))
    made.losses(batch)["paraphrase"].backward()
    reached = {name for name, value in made.named_parameters() if value.grad is not None}
    assert {name for name in reached if name.startswith("heads")} == {
        "heads.1.output.weight",
        "heads.1.output.bias",
    }
    shared = {id(each) for each in made.shared_parameters()}
    assert shared == {id(value) for name, value in made.named_parameters() if name.startswith("encoder")}


def test_answers_do_not_depend_on_other_rows(store, recipe, model):
    made, resolved = model(), recipe()
    every = {name: store.rows(name, "test") for name in resolved.tasks}
    together = answers(made.train(), store, resolved.task, every)
    assert made.training
    for name, rows in every.items():
        alone = [
            answers(made, store, resolved.task, {name: rows.of(np.array([row]))})[name].values[0]
            for row in (3, 0, 11)
        ]
        np.testing.assert_allclose(together[name].values[[3, 0, 11]], alone, rtol=1e-4, atol=1e-5)


def test_lora_trains_little_of_the_encoder(recipe, model):
    made = model("encoder.lora={rank=2}")
    names = [name for name, value in made.named_parameters() if value.requires_grad]
    assert all("lora" in name or name.startswith("heads") for name in names)
    assert 0 < sum(each.numel() for each in made.shared_parameters()) < 2000


@pytest.mark.parametrize(
    ("settings", "name", "message"),
    [
        (["data.max_tokens=65"], "minbert-final", "positions for 64 tokens, data.max_tokens = 65 asks"),
        (["data.max_tokens=33"], "sentences-cross", "twice that for the pairs of 'paraphrase'"),
    ],
    ids=["sentences", "pairs"],
)  # fmt: skip
def test_texts_longer_than_the_model_has_positions_for_are_refused(model, settings, name, message):
    with pytest.raises(UsageError) as caught:
        model(*settings, name=name)
    assert message in str(caught.value)


def test_the_untrained_encoder_leaves_the_generator_alone(recipe):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    encoder = untrained(recipe("encoder.random_weights=true"))
    assert torch.equal(torch.get_rng_state(), before)
    again = untrained(recipe("encoder.random_weights=true"))
    for one, other in zip(encoder.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)
