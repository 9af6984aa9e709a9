"""Fixtures of the contract tests: each cell in turn, and its inputs."""

import numpy as np
import pytest

from tests.contracts.cells import BATCH, CELLS, FEATURES, TIME


@pytest.fixture(params=CELLS, ids=lambda cell: cell.__name__)
def cell_class(request):
    return request.param


@pytest.fixture
def x(cell_class):
    shape = (BATCH, TIME, *([6] * getattr(cell_class, "SPATIAL_RANK", 0)), FEATURES)
    return np.random.default_rng(0).normal(size=shape).astype("float32")
