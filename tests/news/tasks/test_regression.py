import math

import numpy as np
import torch

from counterpoint.news.tasks.regression import Regression, absolute_error, explained


def test_the_loss_is_the_mean_squared_error_of_standardised_values():
    head = Regression(2, mean=10.0, spread=4.0)
    with torch.no_grad():
        head.output.weight.copy_(torch.tensor([[1.0, 2.0]]))
        head.output.bias.fill_(0.5)
    vectors = torch.tensor([[1.0, 0.0], [0.0, 1.0], [3.0, 3.0]])
    values = torch.tensor([12.0, 2.0, math.nan])
    # Predicted 1.5 and 2.5 standard deviations, told 0.5 and -2.
    assert head.loss(vectors, values).item() == (1.0**2 + 4.5**2) / 2
    assert head.predict(vectors).tolist() == [16.0, 20.0, 48.0]


def test_without_values_the_loss_is_zero_and_has_a_gradient():
    head = Regression(3)
    vectors = torch.randn(4, 3, requires_grad=True)
    loss = head.loss(vectors, torch.full((4,), math.nan))
    loss.backward()
    assert loss.item() == 0
    assert (vectors.grad == 0).all()


def test_values_that_do_not_differ_leave_the_scale_alone():
    assert Regression(1, mean=3.0, spread=0.0).spread.item() == 1.0


def test_measures_look_at_known_values_alone():
    values = np.array([1.0, 3.0, np.nan, 8.0])
    predicted = np.array([2.0, 3.0, 100.0, 6.0])
    assert absolute_error(predicted, values) == 1.0
    assert explained(predicted, values) == 1 - 5 / 26
    assert math.isnan(absolute_error(predicted, np.full(4, np.nan)))
    assert math.isnan(explained(predicted[:1], values[:1]))
