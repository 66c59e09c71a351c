"""Small networks for many labels, and batches for them."""

import torch

from counterpoint.feedback.batches import FeedbackBatch
from counterpoint.feedback.data.schema import Column, Schema
from counterpoint.feedback.models.building import network
from counterpoint.feedback.models.network import FeedbackNetwork
from counterpoint.feedback.recipe import Network

SCHEMA = Schema(
    ids=(Column("user", 50), Column("video", 90)),
    numbers=("duration", "age"),
    lists=(Column("tags", 7), Column("words", 11)),
    labels=("view", "click", "buy"),
)
SMALL = {"embedding": 4, "experts": (16, 12), "towers": (8, 6), "initial": "xavier"}


def random_batch(schema: Schema = SCHEMA, rows: int = 12, seed: int = 5) -> FeedbackBatch:
    """A batch of any values; some lists are empty, the last one too."""
    generator = torch.Generator().manual_seed(seed)

    def draw(below: int, *shape: int) -> torch.Tensor:
        return torch.randint(below, shape, generator=generator)

    lists = []
    for column in schema.lists:
        lengths = draw(4, rows)
        lengths[-1] = 0
        lists.append((draw(column.size, int(lengths.sum())), lengths.cumsum(0) - lengths))
    return FeedbackBatch(
        torch.stack([draw(column.size, rows) for column in schema.ids], dim=1),
        torch.randn(rows, len(schema.numbers), generator=generator),
        tuple(lists),
        draw(2, rows, len(schema.labels)).float(),
    )


def small_network(schema: Schema = SCHEMA, **given: object) -> FeedbackNetwork:
    """A small network with weights large enough to tell one from another."""
    torch.manual_seed(3)
    model = network(schema, Network.model_validate({**SMALL, **given}))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "table" in name or "of_numbers" in name:
                parameter.normal_()
            elif "bias" in name or "_order" in name:
                parameter.add_(0.3 * torch.rand_like(parameter))
    return model


SETTINGS = (
    "data.core=3",
    "training.epochs=2",
    "training.batch_size=256",
    "training.learning_rate=0.01",
    "network.experts=[16,8]",
    "network.towers=[8]",
    "network.embedding=4",
    "network.initial=xavier",
)
