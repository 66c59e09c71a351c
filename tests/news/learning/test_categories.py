import numpy as np
import pytest

pytestmark = pytest.mark.slow


def test_categories_help_to_rank_where_they_drive_the_clicks(site, train):
    gains = [
        train(site, ["click", "category"], "mtrec", seed, batch_size=32, scale=0.3)[0]
        - train(site, ["click"], "equal", seed, batch_size=32)[0]
        for seed in range(3)
    ]
    assert np.mean(gains) > 0.02
    assert sum(gain > 0 for gain in gains) >= 2
