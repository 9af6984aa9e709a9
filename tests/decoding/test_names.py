"""Strategies by name, in models too, and what is no strategy for a model."""

import keras
import numpy as np
import pytest

import kseq
from kseq.decoding import (
    BeamSearch,
    ContrastiveSearch,
    CTCBeamSearch,
    DiverseBeamSearch,
    GreedySearch,
    MinimumLength,
    Sampling,
    StochasticBeamSearch,
    TokenStreaming,
    beam_search,
    ctc_beam_search,
    ctc_greedy_decode,
    get_ctc_strategy,
    get_strategy,
    sample,
    stream,
)
from kseq.decoding.names import check_call

BY_NAME = {
    "greedy": GreedySearch(),
    "beam": BeamSearch(),
    "sampling": Sampling(),
    "diverse_beam": DiverseBeamSearch(),
    "stochastic_beam": StochasticBeamSearch(),
    "contrastive": ContrastiveSearch(),
    "beam_search": BeamSearch(),
    "sample": Sampling(),
}


@pytest.mark.every_backend
def test_names_objects_and_configurations():
    for name, strategy in BY_NAME.items():
        assert get_strategy(name) == strategy
        assert get_strategy(strategy) is strategy
    wide = BeamSearch(beam_width=9)
    assert get_strategy(keras.saving.serialize_keras_object(wide)) == wide
    assert get_strategy(beam_search) is beam_search


CTC_WORDS = "trained with CTC"


@pytest.mark.parametrize(
    ("identifier", "error", "message"),
    [
        ("beams", ValueError, r"no strategy 'beams'. Give one of \['greedy', 'beam'"),
        (BeamSearch, TypeError, r"BeamSearch is a class. Make an object: BeamSearch\(\)"),
        (None, TypeError, "strategy=None is no strategy. Give one of"),
        (4, TypeError, "int is no strategy"),
        (CTCBeamSearch(), TypeError, f"CTCBeamSearch reads frames of logits that were {CTC_WORDS}"),
        (ctc_greedy_decode, TypeError, f"ctc_greedy_decode reads frames of logits that were {CTC_WORDS}"),
    ],
)
def test_says_what_is_no_strategy(identifier, error, message):
    with pytest.raises(error, match=message):
        get_strategy(identifier)


@pytest.mark.parametrize(
    ("identifier", "error", "message"),
    [
        ("sampling", ValueError, r"no strategy 'sampling'. Give one of \['greedy', 'beam'\]"),
        (CTCBeamSearch, TypeError, "CTCBeamSearch is a class"),
        (BeamSearch(), TypeError, f"BeamSearch writes token by token with a step, but a model {CTC_WORDS}"),
        (beam_search, TypeError, "beam_search writes token by token"),
        (None, TypeError, "None is no strategy"),
    ],
)
def test_says_what_is_no_decoder_of_ctc(identifier, error, message):
    with pytest.raises(error, match=message):
        get_ctc_strategy(identifier)


@pytest.mark.server
def test_models_take_names():
    cell = kseq.cells.GRUCell
    model = kseq.models.Seq2Seq(kseq.models.Encoder(9, 4, cell(4)), kseq.models.Decoder(8, 4, cell(4)))
    source, lengths = np.array([[4, 5, 6]]), np.array([3])
    for both in (model, kseq.models.Ensemble([model])):
        for name, strategy in (("greedy", GreedySearch()), ("beam", BeamSearch())):
            named, made = (both.decode(source, lengths, strategy=x, max_length=4) for x in (name, strategy))
            np.testing.assert_array_equal(named.tokens, made.tokens)
        with pytest.raises(TypeError, match="strategy=None is no strategy"):
            both.decode(source, lengths, strategy=None, max_length=4)
    state, memory = model.encode(source, lengths)
    streaming = TokenStreaming(strategy="greedy", step=model.step, bos_id=2, eos_id=3, max_length=4)
    streamed = [int(token.tokens[0]) for token in streaming(state, memory=memory)]
    greedy = model.decode(source, lengths, strategy="greedy", max_length=4)
    assert streamed == np.asarray(greedy.tokens)[0, 0, : len(streamed)].tolist()


@pytest.mark.long
def test_recognizers_take_names_with_their_own_blank():
    layer = kseq.layers.GRU(4, return_sequences=True)
    model = kseq.models.CTCRecognizer(3, 6, layer, blank_index=-1)
    features, lengths = np.random.default_rng(0).normal(size=(2, 9, 3)).astype("float32"), np.array([9, 6])
    beam = model.decode(features, lengths, strategy=CTCBeamSearch(blank_index=5)).tokens
    for strategy in ("beam", ctc_beam_search, CTCBeamSearch(blank_index=-1)):
        np.testing.assert_array_equal(model.decode(features, lengths, strategy=strategy).tokens, beam)
    greedy = model.decode(features, lengths).tokens
    for strategy in ("greedy", ctc_greedy_decode):
        np.testing.assert_array_equal(model.decode(features, lengths, strategy=strategy).tokens, greedy)
    with pytest.raises(ValueError, match="The strategy's blank is class 0, but the model's is 5"):
        model.decode(features, lengths, strategy=CTCBeamSearch())
    with pytest.raises(TypeError, match="BeamSearch writes token by token"):
        model.decode(features, lengths, strategy=BeamSearch())


@pytest.mark.long
def test_exports_take_names():
    cell = kseq.cells.GRUCell
    model = kseq.models.Seq2Seq(kseq.models.Encoder(9, 4, cell(4)), kseq.models.Decoder(8, 4, cell(4)))
    source, lengths = np.array([[4, 5, 6]]), np.array([3])
    options = {"source": None, "target": None, "longest": 8}
    answer = model.serving(kseq.models.ServingOptions(strategy="beam", max_length=4, **options)).answer
    expected = model.decode(source, lengths, strategy=BeamSearch(), max_length=4)
    np.testing.assert_array_equal(answer({"tokens": source, "lengths": lengths})["tokens"], expected.tokens)
    with pytest.raises(ValueError, match="no strategy 'beams'"):
        model.serving(kseq.models.ServingOptions(strategy="beams", max_length=4, **options))
    recognizer = kseq.models.CTCRecognizer(3, 6, kseq.layers.GRU(4, return_sequences=True), blank_index=5)
    features = np.random.default_rng(0).normal(size=(1, 9, 3)).astype("float32")
    answer = recognizer.serving(kseq.models.ServingOptions(strategy="beam", max_length=None, **options)).answer
    expected = recognizer.decode(features, np.array([9]), strategy="beam")
    np.testing.assert_array_equal(answer({"features": features, "lengths": np.array([9])})["tokens"], expected.tokens)
    with pytest.raises(TypeError, match="BeamSearch writes token by token"):
        recognizer.serving(kseq.models.ServingOptions(strategy=BeamSearch(), max_length=None, **options))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: BeamSearch(beam_size=4), "BeamSearch has no option 'beam_size'. Did you mean 'beam_width'?"),
        (
            lambda: beam_search(None, None, num_beams=4),
            "BeamSearch has no option 'num_beams'. Did you mean 'beam_width'?",
        ),
        (lambda: BeamSearch()(None, None, promt=4), "BeamSearch has no option 'promt'. Did you mean 'prompt'?"),
        (lambda: sample(None, None, max_len=4), "Sampling has no option 'max_len'. Did you mean 'max_length'?"),
        (lambda: stream(None, None, max_lenght=4), "stream has no option 'max_lenght'. Did you mean 'max_length'?"),
        (lambda: CTCBeamSearch(width=4), "CTCBeamSearch has no option 'width'. Did you mean 'beam_width'?"),
        (lambda: ctc_beam_search(None, None, beam_size=4), "has no option 'beam_size'. Did you mean 'beam_width'?"),
        (lambda: MinimumLength(lenght=4), "MinimumLength has no option 'lenght'. Did you mean 'length'?"),
        (lambda: BeamSearch(zzz=4), r"BeamSearch has no option 'zzz'. The options are \['min_length',"),
        (lambda: check_call(GreedySearch(), {"promt": 4}), "decode has no option 'promt'. Did you mean 'prompt'?"),
        (lambda: check_call(GreedySearch(), {"num_beams": 4}), r"option of a strategy: .*BeamSearch\(beam_width=...\)"),
        (lambda: check_call(Sampling(), {"memory": 4}), "decode has no option 'memory'"),
    ],
)
def test_misspelt_options_get_a_hint(call, message):
    with pytest.raises(TypeError, match=message):
        call()
