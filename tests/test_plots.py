"""Pictures."""

import numpy as np
import pytest

from kseq import plots


def test_attention_heat_map_shows_tokens_and_weights(tmp_path):
    weights = np.random.default_rng(0).uniform(size=(5, 7))
    figure = plots.attention_heat_map("abc", ["x", "y"], weights, title="t")
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["a", "b", "c"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["x", "y"]
    np.testing.assert_array_equal(axes.images[0].get_array(), weights[:2, :3])
    figure.savefig(tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 1000


@pytest.mark.parametrize("shape", [(2, 3), (1, 4), (2, 4, 1)])
def test_too_few_weights_are_refused(shape):
    with pytest.raises(ValueError, match=r"weights have shape .* at least \(2, 4\)"):
        plots.attention_heat_map("abcd", "xy", np.zeros(shape))
