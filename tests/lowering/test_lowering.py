"""What kseq computes on JAX lowers for GPUs and TPUs; it is compiled and run by machines that have them.

A cell, mechanism, strategy, constraint or head joins by its export line, or its line in the contract tests; a layer,
loss or front end has a line here.
"""

import functools
import inspect

import keras
import numpy as np
import pytest

import kseq
from tests.contracts.cells import CELLS, LENGTHS, make
from tests.contracts.heads import HEADS
from tests.contracts.test_attention_contract import CASES as MECHANISMS
from tests.contracts.test_attention_contract import MASK, QUERIES, VALUES
from tests.contracts.test_attention_contract import make as make_mechanism
from tests.contracts.test_constraint_contract import EXAMPLES as CONSTRAINTS
from tests.contracts.test_decoding_contract import IDS, INPUTS, MAX_LENGTH, MODEL, STRATEGIES
from tests.support import BACKEND

if BACKEND != "jax":
    pytest.skip("only JAX lowers for devices that are not there", allow_module_level=True)

import jax

from tests.lowering.lowered import lower, lower_layer, symbolic, total

pytestmark = [pytest.mark.every_backend, pytest.mark.long]
RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(3, 6, 4)).astype("float32")
STEPS = np.arange(6)[None] < LENGTHS[:, None]
LABELS, LABEL_LENGTHS = np.array([[1, 2], [3, 0], [0, 0]], "int32"), np.array([2, 1, 0], "int32")
FRAMES = LENGTHS.astype("int32")
ALIGNED = (LABELS, X, LABEL_LENGTHS, FRAMES)
TAGS = RANDOM.integers(0, 4, size=(3, 6)).astype("int32")
TRANSITIONS = RANDOM.normal(size=(4, 4)).astype("float32")
EDGES = RANDOM.normal(size=(2, 4)).astype("float32")  # start, end
WEIGHTS = np.full((3, 2, 6), 1 / 6, "float32")  # of attention

LAYERS = {
    "SimpleRNN": lambda: (kseq.layers.SimpleRNN(3), (X,), {"mask": STEPS}),
    "GRU": lambda: (kseq.layers.GRU(3, return_sequences=True, dropout=0.1), (X,), {"mask": STEPS}),
    "LSTM": lambda: (kseq.layers.LSTM(3, return_state=True, recurrent_dropout=0.1), (X,), {"mask": STEPS}),
    "RNN": lambda: (kseq.layers.RNN(keras.layers.GRUCell(3)), (X,), {"mask": STEPS}),  # another's cell, step by step
    "Bidirectional": lambda: (kseq.layers.Bidirectional(kseq.layers.GRU(3)), (X,), {"mask": STEPS}),
    "StackedRNN": lambda: (kseq.layers.StackedRNN([kseq.layers.GRU(4), kseq.layers.LSTM(4)]), (X,), {"mask": STEPS}),
    "DeepRNN": lambda: (kseq.layers.DeepRNN([kseq.layers.GRU(4)], 2), (X,), {"mask": STEPS}),
    "AttentionRNN": lambda: (
        kseq.layers.AttentionRNN(kseq.cells.GRUCell(3), kseq.attention.AdditiveAttention(3), return_sequences=True),
        (X, X),
        {"mask": STEPS, "memory_masks": STEPS},
    ),
    "ConformerLayer": lambda: (kseq.layers.ConformerLayer(2, 5, kernel_size=3, dropout=0.1), (X,), {"mask": STEPS}),
    "TransformerEncoderLayer": lambda: (kseq.layers.TransformerEncoderLayer(2, 5, dropout=0.1), (X,), {"mask": STEPS}),
    "TransformerDecoderLayer": lambda: (
        kseq.layers.TransformerDecoderLayer(2, 5),
        (X, X),
        {"mask": STEPS, "source_mask": STEPS},
    ),
    "CRF": lambda: (kseq.layers.CRF(4), (X,), {"mask": STEPS}),
    "AdaptiveSoftmax": lambda: (kseq.layers.AdaptiveSoftmax(9, (2, 5), div_value=1.5), (X,), {}),
    "CharNGramEmbedding": lambda: (kseq.layers.CharNGramEmbedding(9, 3, buckets=7), (TAGS[..., None], STEPS * 1), {}),
    "LearnedPositionalEmbedding": lambda: (kseq.layers.LearnedPositionalEmbedding(9), (X,), {}),
    "SinusoidalPositionalEncoding": lambda: (kseq.layers.SinusoidalPositionalEncoding(), (X,), {}),
    **{
        f"SequencePooling, {kind}": lambda kind=kind: (kseq.layers.SequencePooling(kind), (X,), {"mask": STEPS})
        for kind in ("last", "mean", "max", "attention")
    },
}
FRONT_ENDS = {
    "FrameConvolutions": lambda: (kseq.frontends.FrameConvolutions((3, 4), strides=(2, 1)), X),
    "FrameStacking": lambda: (kseq.frontends.FrameStacking(2), X),
    "FrontEndChain": lambda: (
        kseq.frontends.FrontEndChain([kseq.frontends.FrameStacking(2), kseq.frontends.FrameConvolutions((3,))]),
        X,
    ),
    "LogMelSpectrogram": lambda: (
        kseq.frontends.LogMelSpectrogram(8000, normalize=True),
        RANDOM.normal(size=(3, 900, 1)).astype("float32"),
    ),
    "SpecAugment": lambda: (kseq.frontends.SpecAugment(time_warp=2, seed=1), X),
}
CTC_LABELS = np.where(np.arange(2) < LABEL_LENGTHS[:, None], LABELS, -1)
TARGETS = {"labels": LABELS, "label_lengths": LABEL_LENGTHS, "logit_lengths": FRAMES}
# Functions of the arrays in the second place, of which the first has a gradient.
LOSSES = {
    "ctc_loss": (lambda x: kseq.ctc_loss(LABELS, x, LABEL_LENGTHS, FRAMES), (X,)),
    "CTC": (lambda x, labels: kseq.losses.CTC()(labels, x), (X, CTC_LABELS)),
    "CTC, smoothed": (lambda x, labels: kseq.losses.CTC(label_smoothing=0.1)(labels, x), (X, CTC_LABELS)),
    "AlignmentLoss": (lambda x, targets: kseq.losses.AlignmentLoss()(targets, x), (X, TARGETS)),
    "AlignmentLoss, best": (
        lambda x, targets: kseq.losses.AlignmentLoss(alignment="best")(targets, x),
        (X, TARGETS),
    ),
    "crf_log_likelihood": (
        lambda x, tags, t, e: kseq.losses.crf_log_likelihood(tags, x, FRAMES, transitions=t, start=e[0], end=e[1]),
        (X, TAGS, TRANSITIONS, EDGES),
    ),
    "CRF": (lambda x, tags: kseq.losses.CRF()(tags, kseq.layers.CRF(4)(x)), (X, TAGS)),
    "SequenceCrossEntropy": (lambda x, tags: kseq.losses.SequenceCrossEntropy()(tags, x), (X, TAGS)),
    "NegativeLogLikelihood": (
        lambda x, y: kseq.losses.NegativeLogLikelihood(kseq.heads.StudentT())(y, x),
        (X[..., :3], X[..., 0]),
    ),
    "soft_target_loss": (lambda x, teacher: kseq.losses.soft_target_loss(teacher, x, temperature=2.0), (X, X)),
    "coverage_loss": (kseq.losses.coverage_loss, (WEIGHTS,)),
    "diagonal_attention_loss": (kseq.losses.diagonal_attention_loss, (WEIGHTS, LABEL_LENGTHS, FRAMES)),
    "guided_alignment_loss": (kseq.losses.guided_alignment_loss, (WEIGHTS, WEIGHTS)),
}
DECODED = kseq.Decoded(
    tokens=RANDOM.integers(3, 5, size=(4, 2, 3)).astype("int32"),
    lengths=np.full((4, 2), 3, "int32"),
    scores=np.zeros((4, 2), "float32"),
    alignments=np.zeros((4, 2, 3, 4), "float32"),
    finished=np.ones((4, 2), bool),
    log_probabilities=np.zeros((4, 2, 3), "float32"),
)
CRF_WEIGHTS = {"transitions": TRANSITIONS, "start": EDGES[0], "end": EDGES[1]}
WORDS = [[1, 2], [2], [1, 1, 2]]
SEARCHES = {
    "ctc_greedy_decode": (kseq.ctc_greedy_decode, (X, FRAMES)),
    "ctc_beam_search": (functools.partial(kseq.ctc_beam_search, beam_width=4, top_paths=2), (X, FRAMES)),
    "CTCBeamSearch, scorers": (
        lambda x, n: kseq.decoding.CTCBeamSearch(
            beam_width=4,
            classes_per_frame=2,
            scorers=(kseq.decoding.HotWords(WORDS), kseq.decoding.Lexicon(WORDS, separator=3)),
        )(x, n),
        (X, FRAMES),
    ),
    "crf_decode": (lambda x, n: kseq.decoding.crf_decode(x, n, top_paths=2, **CRF_WEIGHTS), (X, FRAMES)),
    "crf_marginals": (lambda x, n: kseq.decoding.crf_marginals(x, n, **CRF_WEIGHTS), (X, FRAMES)),
    "token_log_probabilities": (
        lambda state, memory, tokens, n: kseq.decoding.token_log_probabilities(
            MODEL.step, state, tokens, n, memory=memory, bos_id=1
        ),
        (MODEL.state, MODEL.memory, DECODED.tokens, DECODED.lengths),
    ),
    "rescore": (lambda *fields: kseq.decoding.rescore(kseq.Decoded(*fields), fields[2] + 1.0), DECODED),
}
ALIGNMENTS = {
    "ctc_forced_align": kseq.ctc_forced_align,
    "ctc_posteriors": kseq.alignment.ctc_posteriors,
    "forward_backward": kseq.alignment.forward_backward,
    "viterbi_align": kseq.alignment.viterbi_align,
    "forced_align": functools.partial(kseq.alignment.forced_align, kseq.alignment.OrderSynchronous()),
}


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.__name__)
def test_every_cell_over_time(cell):
    shape = (3, 6, *([6] * getattr(cell, "SPATIAL_RANK", 0)), 5)
    lower_layer(make(cell), RANDOM.normal(size=shape).astype("float32"), both=True, mask=STEPS)


@pytest.mark.parametrize("name", LAYERS)
def test_every_layer(name):
    layer, inputs, call = LAYERS[name]()
    layer(*symbolic(inputs), **symbolic(call))
    lower_layer(layer, *inputs, both="training" in inspect.signature(layer.call).parameters, **call)


@pytest.mark.parametrize("name", MECHANISMS)
def test_every_attention_mechanism(name):
    mechanism, options = MECHANISMS[name]
    layer = make_mechanism(mechanism, **options)
    layer(QUERIES, layer.memory(VALUES, MASK), layer.initial_state(*VALUES.shape[:2]))
    lower_layer(layer, QUERIES, VALUES, through=attend)


def attend(layer, queries, values):
    """Attend to values by many queries, and by one."""
    memory, state = layer.memory(values, MASK), layer.initial_state(*VALUES.shape[:2])
    return layer(queries, memory, state), layer(queries[:, 0], memory, state)


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_with_its_gradient(name):
    function, arrays = LOSSES[name]
    lower(jax.value_and_grad(lambda *arrays: total(function(*arrays))), *arrays)


@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda strategy: strategy.__name__)
def test_every_strategy(strategy):
    def decode(state, memory, seed, prompt, lengths):
        options = {"seed": seed, "prompt": prompt, "prompt_lengths": lengths}
        return strategy()(MODEL.step, state, memory=memory, max_length=MAX_LENGTH, **IDS, **options)

    lower(decode, *INPUTS)


@pytest.mark.parametrize("constraint", CONSTRAINTS, ids=lambda constraint: type(constraint).__name__)
def test_every_constraint_in_a_beam_search(constraint):
    search = kseq.decoding.BeamSearch(beam_width=3, length_penalty=0.6, constraints=(constraint,))
    state, memory, *_ = INPUTS
    options = {"bos_id": 1, "eos_id": 2, "max_length": MAX_LENGTH}  # some forbid or force the other token of IDS
    lower(lambda s, m: search(MODEL.step, s, memory=m, **options), state, memory)


@pytest.mark.parametrize("name", SEARCHES)
def test_every_other_search(name):
    function, arrays = SEARCHES[name]
    lower(function, *arrays)


@pytest.mark.parametrize("name", ALIGNMENTS)
def test_every_alignment(name):
    lower(ALIGNMENTS[name], *ALIGNED)


@pytest.mark.parametrize("name", [*HEADS, "Quantiles"])
def test_every_head(name):
    head = HEADS[name].head if name in HEADS else kseq.heads.Quantiles((0.2, 0.5, 0.8))
    outputs = RANDOM.normal(size=(3, head.size)).astype("float32")
    values = np.ones((3, *head.event_shape), "float32")
    lower(jax.value_and_grad(lambda o, v: total(head.loss(head.parameters(o), v))), outputs, values)
    if name == "Quantiles":  # no distribution
        lower(lambda o: head.quantile(head.parameters(o), 0.5), outputs)
        return
    lower(lambda o: (head.mean(head.parameters(o)), head.quantile(head.parameters(o), 0.5)), outputs)
    lower(lambda o, seed: head.sample(head.parameters(o), seed), outputs, np.int32(3))


@pytest.mark.parametrize("name", FRONT_ENDS)
def test_every_front_end(name):
    layer, values = FRONT_ENDS[name]()
    lengths = np.array([values.shape[1], 3, 1], "int32")
    layer(*symbolic((values, lengths)))
    lower_layer(layer, values, lengths, both="training" in inspect.signature(layer.call).parameters)


def test_nothing_public_is_left_out():
    """Of what computes on tensors, and has no contract of its own."""
    tables = {"layers": LAYERS, "frontends": FRONT_ENDS, "losses": LOSSES, "alignment": ALIGNMENTS}
    elsewhere = {"from_keras", "alignment_spans"}  # of models, and of arrays
    for module, table in tables.items():
        public = {name: getattr(getattr(kseq, module), name) for name in getattr(kseq, module).__all__}
        ops_of_it = {
            name
            for name, x in public.items()
            if inspect.isfunction(x) or issubclass(x, keras.layers.Layer | keras.losses.Loss)
        }
        assert ops_of_it - elsewhere == {name.split(",")[0] for name in table}, module
