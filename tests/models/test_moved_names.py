"""Names and files of earlier versions, in which front ends and error rates were part of `kseq.models`."""

import keras
import pytest

import kseq

MOVED = {
    "FrameConvolutions": kseq.frontends,
    "FrameStacking": kseq.frontends,
    "FrontEndChain": kseq.frontends,
    "LogMelSpectrogram": kseq.frontends,
    "TokenErrorRate": kseq.metrics,
    "error_rates": kseq.metrics,
}


@pytest.mark.parametrize("name", MOVED)
def test_moved_names_are_importable_from_both_places(name):
    assert getattr(kseq.models, name) is getattr(MOVED[name], name)


@pytest.mark.parametrize(
    ("name", "module", "config"),
    [
        ("FrameStacking", "kseq.models.front_end", {"count": 3}),
        ("LogMelSpectrogram", "kseq.models.log_mel", {"sample_rate": 8000}),
        ("TokenErrorRate", "kseq.models.token_error_rate", {"blank_index": 2}),
    ],
)
def test_configs_of_earlier_modules_are_loaded(name, module, config):
    written = {"module": module, "class_name": name, "config": config, "registered_name": f"kseq>{name}"}
    made = keras.saving.deserialize_keras_object(written)
    assert type(made) is getattr(MOVED[name], name)
    assert config.items() <= made.get_config().items()
