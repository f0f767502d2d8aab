import numpy as np
import pytest


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    """Use one thread: these sizes gain nothing from threads, which compete for cores if tests run in parallel."""
    import torch

    from rcdp_hpc.runtime.threads import limit_threads

    assert torch.get_num_threads() >= 1
    with limit_threads(1):
        yield
