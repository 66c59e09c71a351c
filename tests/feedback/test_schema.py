import json

import pytest
import torch
from pydantic import ValidationError

from counterpoint.feedback.batches import FeedbackBatch
from counterpoint.feedback.data.schema import Column, Schema
from counterpoint.feedback.recipe import Network

SCHEMA = Schema(
    ids=(Column("user", 5), Column("video", 9)),
    numbers=("duration",),
    lists=(Column("tags", 7),),
    labels=("like", "follow"),
)


def test_a_schema_comes_back_from_json():
    again = Schema.from_dict(json.loads(json.dumps(SCHEMA.as_dict())))
    assert again == SCHEMA
    assert again.fields == 4


def test_a_batch_moves_as_a_whole_and_counts_its_rows():
    batch = FeedbackBatch(
        torch.zeros(3, 2, dtype=torch.int64),
        torch.zeros(3, 1),
        ((torch.tensor([1, 2]), torch.tensor([0, 1, 1])),),
        torch.zeros(3, 2),
    )
    moved = batch.to(torch.device("meta"))
    assert len(moved) == 3
    assert {each.device.type for each in (moved.ids, moved.numbers, *moved.lists[0], moved.labels)} == {
        "meta"
    }


def test_the_defaults_are_those_of_paper_5():
    network = Network()
    assert (network.architecture, network.levels, network.expert_kind) == ("ple", 1, "deepfm")
    assert (network.embedding, network.experts, network.towers) == (16, (256, 128, 64), (32, 16))
    assert (network.dropout, network.initial, network.shared) == (0.2, "normal", "paper")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"architecture": "shared-bottom", "levels": 2}, "one shared expert and one level"),
        ({"architecture": "shared-bottom", "shared_experts": 3}, "one shared expert and one level"),
        ({"architecture": "mmoe", "shared_experts": 0}, "must be 1 at least"),
        ({"architecture": "mmoe", "own_experts": 1}, "leave them out with mmoe"),
        ({"chain": "esmm"}, "go together"),
        ({"order": ("like", "follow")}, "go together"),
        ({"chain": "aitm", "order": ("like",)}, "at least two tasks"),
        ({"chain": "aitm", "order": ("like", "like")}, "each once"),
        ({"experts": ()}, "at least 1 item"),
        ({"experts": (8, 0)}, "should be greater than 0"),
        ({"towers": (-4,)}, "should be greater than 0"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(given, said):
    with pytest.raises(ValidationError, match=said):
        Network(**given)
