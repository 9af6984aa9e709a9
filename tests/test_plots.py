"""Pictures."""

import re

import numpy as np
import pytest

from kseq import plots
from kseq.training import BoundedInputResponse, GateSaturation, KernelSpectrum, MemoryCurve, StabilityMap


def test_attention_heat_map_shows_tokens_and_weights(tmp_path):
    weights = np.random.default_rng(0).uniform(size=(5, 7))
    figure = plots.attention_heat_map("abc", ["x", "y"], weights, title="t")
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["a", "b", "c"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["x", "y"]
    np.testing.assert_array_equal(axes.images[0].get_array(), weights[:2, :3])
    figure.savefig(tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 1000


def test_long_tokens_under_a_heat_map_stand_upright():
    weights = np.zeros((1, 2))
    figures = [plots.attention_heat_map(source, ["x"], weights) for source in (["a", "bc"], ["a", "green"])]
    turned = [{label.get_rotation() for label in figure.axes[0].get_xticklabels()} for figure in figures]
    assert turned == [{0.0}, {90.0}]


@pytest.mark.parametrize("shape", [(2, 3), (1, 4), (2, 4, 1)])
def test_too_few_weights_are_refused(shape):
    with pytest.raises(ValueError, match=r"weights have shape .* at least \(2, 4\)"):
        plots.attention_heat_map("abcd", "xy", np.zeros(shape))


def test_heads_and_mechanisms_are_drawn_side_by_side(tmp_path):
    weights = np.random.default_rng(0).uniform(size=(3, 2, 4))
    figure = plots.attention_heat_maps("abc", "xy", weights, title="t")
    assert [axes.get_title() for axes in figure.axes[:3]] == ["head 1", "head 2", "head 3"]
    for axes, head in zip(figure.axes, weights, strict=False):
        np.testing.assert_array_equal(axes.images[0].get_array(), head[:, :3])
    figure.savefig(tmp_path / "picture.png")
    named = {"words": weights[0], "frames": weights[1][:, :2]}
    figure = plots.attention_heat_maps({"words": "abcd", "frames": "ef"}, "xy", named)
    assert [len(axes.get_xticklabels()) for axes in figure.axes[:2]] == [4, 2]


@pytest.mark.parametrize(
    ("source", "weights", "message"),
    [
        ("abc", np.zeros((2, 3)), r"weights have shape \(2, 3\), but expected \(heads, target, source\)"),
        ("abc", {"a": np.zeros((2, 2))}, r"weights have shape \(2, 2\), .* at least \(2, 3\)"),
        ({"b": "abc"}, {"a": np.zeros((2, 3))}, r"weights of \['a'\], but sources of \['b'\]"),
    ],
)
def test_heads_that_do_not_fit_are_refused(source, weights, message):
    with pytest.raises(ValueError, match=message):
        plots.attention_heat_maps(source, "xy", weights)


def test_training_curves_show_training_beside_validation(tmp_path):
    history = {"loss": [3.0, 2.0, 1.0], "val_loss": [3.5, 3.0, 3.2], "accuracy": [0.1, 0.2, 0.3]}
    figure = plots.training_curves(type("History", (), {"history": history})(), title="t")
    drawn = [[line.get_ydata().tolist() for line in axes.lines] for axes in figure.axes]
    assert drawn == [[history["loss"], history["val_loss"]], [history["accuracy"]]]
    assert figure.axes[0].lines[0].get_xdata().tolist() == [1, 2, 3]
    assert [axes.get_title() for axes in plots.training_curves(history, names=["accuracy"]).axes] == ["accuracy"]
    figure.savefig(tmp_path / "picture.png")
    with pytest.raises(ValueError, match=r"values of \['loss', 'accuracy'\], but names=\['f1'\]"):
        plots.training_curves(history, names=["f1"])


def test_alignment_heat_map_shows_frames_spans_and_boundaries(tmp_path):
    values = np.random.default_rng(0).uniform(size=(50, 3))
    starts, ends = np.array([0.1, np.nan, 0.6, 9.0]), np.array([0.4, np.nan, 0.8, 9.5])
    figure = plots.alignment_heat_map(
        values, ["one", "two", "six"], starts, ends, frame_rate=50.0, rows="abc", boundaries=[0.5], title="t"
    )
    above, below = figure.axes[:2]
    bars = [collection.get_paths()[0].get_extents() for collection in above.collections]
    np.testing.assert_allclose([(bar.x0, bar.x1) for bar in bars], [(0.1, 0.4), (0.6, 0.8)])
    shown = [(text.get_text(), text.get_position()[0]) for text in above.texts]
    assert shown == [("one", pytest.approx(0.25)), ("six", pytest.approx(0.7))]
    np.testing.assert_array_equal(below.images[0].get_array(), values.T)
    assert below.images[0].get_extent() == [0, 1.0, 0, 3]
    assert [line.get_xdata()[0] for line in below.lines] == [0.5]
    assert [label.get_text() for label in below.get_yticklabels()] == ["a", "b", "c"]
    figure.savefig(tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"values": np.zeros((2, 9, 3))}, "values have shape (2, 9, 3), but must be (time, features)"),
        ({"frame_rate": 0.0}, "frame_rate=0.0"),
        ({"starts": np.zeros(1)}, "shapes (1,) and (2,), but 2 labels need at least (2,) each"),
        ({"rows": "ab"}, "rows has 2 names, but the frames have 3 features"),
    ],
)
def test_spans_that_do_not_fit_are_refused(change, message):
    fitting = {"values": np.zeros((9, 3)), "labels": "ab", "starts": np.zeros(2), "ends": np.ones(2), "frame_rate": 9.0}
    with pytest.raises(ValueError, match=re.escape(message)):
        plots.alignment_heat_map(**{**fitting, **change})


def test_attention_is_drawn_over_a_picture_for_each_token(tmp_path):
    random = np.random.default_rng(0)
    picture, weights = random.uniform(size=(4, 6, 3)), random.uniform(size=(9, 2, 3))
    figure = plots.attention_over_picture(picture, "abcdefg", weights, title="t")
    drawn = [axes for axes in figure.axes if axes.images]
    assert [axes.get_title() for axes in drawn] == [*"abcdefg"]
    for axes, weight in zip(drawn, weights, strict=False):
        shares = np.asarray(axes.images[0].get_array()) / picture
        np.testing.assert_allclose(shares[::2, ::2, 0], 0.15 + 0.85 * weight / weight.max(), rtol=1e-5)
        np.testing.assert_allclose(shares[1::2, 1::2, 2], shares[::2, ::2, 0], rtol=1e-5)
    figure.savefig(tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
    grey = plots.attention_over_picture(picture[..., :1], "a", weights).axes[0].images[0]
    assert grey.get_array().shape == (4, 6, 3)


@pytest.mark.parametrize(
    ("picture", "tokens", "weights", "message"),
    [
        ((4, 6), "ab", (2, 2, 3), r"The picture has shape \(4, 6\)"),
        (
            (4, 6, 3),
            "abc",
            (2, 2, 3),
            r"weights have shape \(2, 2, 3\), but 3 tokens need at least \(3, rows, columns\)",
        ),
        ((4, 6, 3), "ab", (2, 6), r"weights have shape \(2, 6\)"),
        ((4, 6, 3), "", (2, 2, 3), "0 tokens"),
    ],
)
def test_pictures_and_weights_that_do_not_fit_are_refused(picture, tokens, weights, message):
    with pytest.raises(ValueError, match=message):
        plots.attention_over_picture(np.zeros(picture), tokens, np.zeros(weights))


def test_a_fan_chart_shows_intervals_around_the_median(tmp_path):
    quantiles = np.array([[0.0, 1.0, 3.0], [0.0, 2.0, 6.0]])
    figure = plots.fan_chart([5.0, 4.0, 3.0], quantiles, (0.1, 0.5, 0.9), truth=[1.0, 2.5], title="t")
    axes = figure.axes[0]
    (band,) = axes.collections
    corners = {tuple(point) for point in band.get_paths()[0].vertices.tolist()}
    assert {(3.0, 0.0), (3.0, 3.0), (4.0, 0.0), (4.0, 6.0)} <= corners
    assert band.get_label() == "80 %"
    lines = {line.get_label(): line.get_xydata().tolist() for line in axes.lines}
    assert lines["median"] == [[3.0, 1.0], [4.0, 2.0]]
    assert lines["history"] == [[0.0, 5.0], [1.0, 4.0], [2.0, 3.0]]
    assert lines["truth"] == [[3.0, 1.0], [4.0, 2.5]]
    figure.savefig(tmp_path / "picture.png")


@pytest.mark.parametrize(
    ("quantiles", "levels", "truth", "message"),
    [
        (np.zeros((2, 3)), (0.1, 0.9), None, r"quantiles \(2, 3\), but expected \(time,\) and \(steps, 2\)"),
        (np.zeros((2, 2)), (0.1, 0.5), None, "no two levels around 0.5"),
        (np.zeros((2, 2)), (0.1, 0.9), np.zeros(3), r"truth has shape \(3,\), but the forecast has 2 steps"),
    ],
)
def test_a_forecast_that_does_not_fit_is_refused(quantiles, levels, truth, message):
    with pytest.raises(ValueError, match=message):
        plots.fan_chart(np.zeros(4), quantiles, levels, truth=truth)


class TestDiagnosticsOfRecurrences:
    def test_gradients_are_drawn_by_distance(self, tmp_path):
        norms = np.array([[1.0, 0.1, 0.01], [1.0, 10.0, np.nan]])
        figure = plots.gradient_decay({"a": norms, "b": norms[:1]}, title="t")
        a, b, _ = figure.axes[0].lines
        np.testing.assert_allclose(a.get_ydata(), [1.0, 1.0, 0.01])  # the geometric mean
        np.testing.assert_allclose(b.get_ydata(), norms[0])
        assert a.get_xdata().tolist() == [0, 1, 2]
        figure.savefig(tmp_path / "picture.png")

    def test_spectra_memory_and_responses_are_drawn_with_their_numbers(self, tmp_path):
        spectra = {"k": KernelSpectrum(np.array([1j, -0.5]), np.array([2.0, 1.0]))}
        figure = plots.eigenvalue_plot(spectra)
        np.testing.assert_allclose(figure.axes[0].collections[0].get_offsets(), [[0.0, 1.0], [-0.5, 0.0]])
        assert "radius 1.00" in figure.axes[0].get_legend().get_texts()[0].get_text()
        assert plots.singular_value_plot(spectra).axes[0].lines[0].get_ydata().tolist() == [2.0, 1.0]
        memory = plots.memory_curves({"k": MemoryCurve(np.array([1, 2]), np.array([1.0, 0.5]))})
        assert "capacity 1.5" in memory.axes[0].get_legend().get_texts()[0].get_text()
        response = plots.response_curves({"k": BoundedInputResponse(np.array([1.0, np.inf]), np.inf, False)})
        assert "grows" in response.axes[0].get_legend().get_texts()[0].get_text()
        for each in (figure, memory, response):
            each.savefig(tmp_path / "picture.png")

    def test_saturation_and_stability_have_a_panel_each(self, tmp_path):
        gates = {name: GateSaturation(np.array([0.1, 0.2]), np.array([0.3, 0.4])) for name in ("input", "forget")}
        figure = plots.saturation_plot(gates)
        assert [axes.get_title() for axes in figure.axes] == ["input", "forget"]
        np.testing.assert_allclose(figure.axes[0].collections[0].get_offsets(), [[0.3, 0.1], [0.4, 0.2]])
        counts = np.array([[0, 1], [2, 1], [1, 1]])
        diagram = plots.stability_diagram({"tanh": StabilityMap(np.arange(3.0), np.arange(2.0), counts, counts)})
        np.testing.assert_array_equal(diagram.axes[0].collections[0].get_array().reshape(2, 3), counts.T)
        for each in (figure, diagram):
            each.savefig(tmp_path / "picture.png")

    @pytest.mark.parametrize(
        "plot",
        [
            plots.eigenvalue_plot,
            plots.singular_value_plot,
            plots.gradient_decay,
            plots.memory_curves,
            plots.saturation_plot,
            plots.response_curves,
            plots.stability_diagram,
        ],
    )
    def test_nothing_to_draw_is_refused(self, plot):
        with pytest.raises(ValueError, match="nothing to draw"):
            plot({})
