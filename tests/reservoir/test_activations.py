"""The activations of the table: formulas, gradients, and the attributes of their classes."""

import numpy as np
import pytest
import torch
from reservoir.reference import F

from rcdp_hpc.config.choices import ACTIVATIONS
from rcdp_hpc.config.choices.activations import is_positive
from rcdp_hpc.reservoir.activations import load_activation
from rcdp_hpc.reservoir.stream import bound_of_sums


@pytest.mark.parametrize("name", ACTIVATIONS.names)
def test_values_gradients_and_attributes(name):
    activation = load_activation(name)
    x = torch.linspace(-3, 3, 31, dtype=torch.float64)
    np.testing.assert_allclose(activation(x).numpy(), F[name](x.numpy()), atol=1e-12)
    torch.testing.assert_close(activation.apply_(x.clone()), activation(x))
    assert torch.autograd.gradcheck(activation, (x[::2].clone().requires_grad_(),))
    far = activation(torch.linspace(-50, 50, 101, dtype=torch.float64))
    assert is_positive(name) == bool((far > 0).all())
    assert (activation.bound is None) == (float(far.abs().max()) > 2)


def test_sums_over_states_are_bounded_if_the_activation_is():
    assert bound_of_sums("tanh", 7) == bound_of_sums("sigmoid", 7) == 7.0
    assert bound_of_sums("relu", 7) is None
