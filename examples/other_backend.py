"""Models that JAX trains and TensorFlow exports: how an example that runs on JAX ends."""

import sys

import keras


def goes_on_elsewhere(*files):
    """Return whether this is not TensorFlow, which alone exports; then say how it takes the saved models up."""
    if keras.backend.backend() == "tensorflow":
        return False
    again = " ".join([*sys.argv, "--trained", *map(str, files)])
    print(f"Trained on {keras.backend.backend()}. TensorFlow measures, exports and serves the model:")
    print(f"  KERAS_BACKEND=tensorflow python {again}")
    return True
