"""What a training starts from."""

import pytest
import torch

from counterpoint.api import read_recipe
from counterpoint.feedback import workload
from counterpoint.feedback.data.store import Store
from small_feedback import SETTINGS as SMALL


@pytest.mark.parametrize("name", ["gradcraft", "feedback-single"])
def test_first_weights_are_the_recipes_seeds_whatever_was_drawn_before(name, store):
    def weights(seed: int, drawn_before: int) -> torch.Tensor:
        torch.manual_seed(drawn_before)
        recipe = read_recipe(name, SMALL, seed=seed)
        model = workload.trainee(recipe, Store(store.path)).model
        return torch.cat([each.flatten() for each in model.parameters()])

    first = weights(seed=0, drawn_before=5)
    assert torch.equal(weights(seed=0, drawn_before=6), first)
    assert not torch.equal(weights(seed=1, drawn_before=5), first)
