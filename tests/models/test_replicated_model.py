"""What a model refuses where several processes train it together; `tests/distribution` trains with them."""

import keras
import pytest

import kseq
from kseq.models import replicated_model


def test_the_part_of_another_process_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(replicated_model, "process_of", lambda model: (1, 2))
    model = kseq.models.Tagger(kseq.models.Encoder(9, 4, kseq.cells.GRUCell(3)), 4)
    model.compile("sgd")
    rows = {"source": [[1, 2], [3], [4, 5]], "tags": [[1, 2], [3], [0, 1]]}
    batches = kseq.training.bucket_by_length(rows, batch_size=1, buckets=(2,), shard=(0, 2))
    with pytest.raises(ValueError, match=r"shard=\(0, 2\), but this is process 1 of 2"):
        model.fit(batches, verbose=0)


def test_an_optimizer_is_as_before_on_one_device():
    model = kseq.models.Tagger(kseq.models.Encoder(9, 4, kseq.cells.GRUCell(3)), 4)
    optimizer = keras.optimizers.SGD(0.1, clipnorm=1.0, gradient_accumulation_steps=2)
    model.compile(optimizer)
    assert not {"_backend_apply_gradients", "_all_reduce_sum_gradients"} & vars(optimizer).keys()


def test_workers_have_one_state_of_a_training():
    """`ExactResume` of the first process writes what all of them read."""

    def fingerprint(**options: tuple[int, int]) -> int:
        rows = {"source": [[1, 2], [3], [4, 5]]}
        return kseq.training.bucket_by_length(rows, batch_size=1, buckets=(2,), **options).order.fingerprint

    assert fingerprint(shard=(0, 2)) == fingerprint(shard=(1, 2)) != fingerprint()
    assert fingerprint() == fingerprint(shard=(0, 1))
