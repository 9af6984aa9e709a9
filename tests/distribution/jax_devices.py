"""The program of `test_jax.py`: two devices of JAX under `keras.distribution`, against one.

usage: KERAS_BACKEND=jax python -m tests.distribution.jax_devices CASE ... ; writes a line of JSON for each case
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"

import keras
import tensorflow as tf

import kseq
from tests.contracts.models import batch_of
from tests.distribution.trainings import differences, make, print_cases, tagged, tagger, train

CASES: dict[str, Callable[[], dict[str, Any]]] = {}


def case(function: Callable) -> Callable:
    CASES[function.__name__] = function
    return function


@contextlib.contextmanager
def distributed(distribution: Any) -> Iterator[None]:
    """Use a distribution for the models that are made, and trained, inside."""
    keras.distribution.set_distribution(distribution)
    try:
        yield
    finally:
        keras.distribution.set_distribution(None)


def data_parallel() -> Any:
    return keras.distribution.DataParallel(devices=keras.distribution.list_devices())


def model_parallel(*kernels: str) -> Any:
    """Return a distribution that divides the last axis of kernels, named by the ends of their paths."""
    mesh = keras.distribution.DeviceMesh((1, 2), ["batch", "model"], keras.distribution.list_devices())
    layout = keras.distribution.LayoutMap(mesh)
    for kernel in kernels:
        layout[f".*{kernel}$"] = (None, "model")
    return keras.distribution.ModelParallel(layout_map=layout, batch_dim_name="batch")


def both(make_model: Callable, make_batches: Callable, distribution: Any, **options: Any) -> dict[str, float]:
    """Return the differences of a training on two devices and one of the whole batch on one."""
    expected = train(make_model, make_batches, **options)
    with distributed(distribution):
        return differences(train(make_model, make_batches, **options), expected)


def of_model(name: str) -> dict[str, float]:
    batch = batch_of(make(name), name)
    batches = tf.data.Dataset.from_tensor_slices(batch).batch(4)
    return both(lambda: make(name), lambda: batches, data_parallel())


@case
def buckets() -> dict[str, Any]:
    """Buckets whose last batches are completed by rows of length 0, a new order in each epoch."""
    return both(tagger, lambda: tagged(shuffle=True, seed=1), data_parallel())


@case
def arrays() -> dict[str, Any]:
    batch = batch_of(make("Tagger, CRF"), "Tagger, CRF")
    return both(lambda: make("Tagger, CRF"), lambda: batch, data_parallel(), batch_size=2)


@case
def clipping() -> dict[str, Any]:
    return both(tagger, tagged, data_parallel(), optimizer=lambda: keras.optimizers.Adam(0.01, global_clipnorm=0.05))


@case
def accumulation() -> dict[str, Any]:
    return both(
        tagger, tagged, data_parallel(), optimizer=lambda: keras.optimizers.SGD(0.1, gradient_accumulation_steps=2)
    )


@case
def word_vectors() -> dict[str, Any]:
    """Word vectors, whose loss is a sum over rows."""
    texts = ["the red bird sings", "a red bird flies", "the sun is red"]
    tokenizer = kseq.text.WordTokenizer().adapt(texts)

    def model() -> Any:
        keras.utils.set_random_seed(3)
        made = kseq.models.SkipGram(tokenizer.vocabulary_size, 4)
        made.build()
        return made

    def batches() -> Any:
        return kseq.training.context_windows(tokenizer, texts, 2, window=2, steps=4, noise=4, sample=0)

    return both(model, batches, data_parallel())


@case
def uneven_rows() -> dict[str, Any]:
    return both(tagger, lambda: tagged(batch_size=3), data_parallel())


def divided(name: str, *kernels: str) -> dict[str, float]:
    """Return the differences of a model whose kernels are divided over the devices, which must be so."""
    batch = batch_of(make(name), name)
    batches = tf.data.Dataset.from_tensor_slices(batch).batch(4)

    def model() -> Any:
        made = make(name)
        if keras.distribution.distribution() is not None:
            shards = {w.path: w.value.addressable_shards[0].data.shape for w in made.weights if w.value.ndim == 2}
            whole = {w.path: tuple(w.shape) for w in made.weights if w.value.ndim == 2}
            of_kernels = [path for path in whole if any(path.endswith(kernel) for kernel in kernels)]
            assert of_kernels, sorted(whole)
            assert all(2 * shards[path][1] == whole[path][1] for path in of_kernels), shards
        return made

    return both(model, lambda: batches, model_parallel(*kernels))


@case
def divided_transformer() -> dict[str, Any]:
    return divided("Seq2Seq, Transformer", "feed_forward/kernel", "embeddings")


@case
def divided_embeddings() -> dict[str, Any]:
    return divided("Seq2Seq", "embeddings")


if __name__ == "__main__":
    print_cases(CASES, of_model)
