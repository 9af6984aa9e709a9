"""The preset for waveforms: the bytes of WAV files."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf

from kseq.export.inputs.decoded_or import decoded_or
from kseq.export.inputs.preset import InputPreset, mask_value, refuse_shape
from kseq.export.inputs.reader import Reader
from kseq.export.row_errors import add_error, no_errors
from kseq.models.export_contract import Inputs, StepInputs

HEADER = 36  # bytes up to the number of bits per sample, if the format comes first


@dataclass(frozen=True, kw_only=True)
class Wav(InputPreset):
    """Requests contain `wav_bytes` string `(batch,)`, the bytes of WAV files: 16 bits per sample, one channel.

    The model gets the samples as float32 between -1 and 1. Files with several channels are refused.

    Attributes:
        sample_rate: Samples per second; other files are refused. None: that of the model's first layer with a
            `sample_rate`, such as `kseq.frontends.LogMelSpectrogram`; any, if it has none.
    """

    name: ClassVar[str] = "samples"
    sample_rate: int | None = None

    def inputs(self, model: Any, shape: tuple[Any, ...]) -> StepInputs:
        """Return the sequences of samples."""
        if shape[2:] not in ((), (1,)) or len(shape) < 2:
            raise refuse_shape("wav", shape, "(batch, samples) or (batch, samples, 1)")
        return StepInputs(dtype="float32", step_shape=shape[2:], pad_value=mask_value(model))

    def of_model(self, model: Any) -> "Wav":
        """Return the preset with the sample rate of the model's front end, unless it has one."""
        return self if self.sample_rate is not None else replace(self, sample_rate=_sample_rate(model))

    def reader(self, inputs: Inputs) -> Reader:
        """Return the reader of files."""
        return WavReader(inputs, self.sample_rate)


class WavReader(Reader):
    """Reads samples from the bytes of files, see `Wav`."""

    def __init__(self, inputs: Inputs, sample_rate: int | None):
        super().__init__(inputs)
        self.padded, self.optional = False, ()
        ((self.name, samples),) = inputs.items()
        if not isinstance(samples, StepInputs) or samples.step_shape not in ((), (1,)):
            raise ValueError("inputs='wav' needs a model that reads single samples, with feature_size=1.")
        self.step_shape, self.sample_rate = samples.step_shape, sample_rate

    def specs(self) -> list[tf.TensorSpec]:
        """Return the spec of the files."""
        return [tf.TensorSpec([None], tf.string, name="wav_bytes")]

    def read(self, request: dict[str, tf.Tensor]) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        """Return the samples; rows with another format, or damaged ones, are refused."""
        files = request["wav_bytes"]
        errors = self._check(files)
        number = tf.TensorSpec([], tf.int32)
        spec = (tf.TensorSpec([], tf.bool), (tf.RaggedTensorSpec([None], tf.float32, ragged_rank=0), number, number))
        nothing = (tf.zeros([0]), 1, self.sample_rate or 0)
        whole, (samples, channels, rates) = tf.map_fn(
            lambda file: decoded_or(nothing, _decoded, file), files, fn_output_signature=spec
        )
        errors = add_error(errors, ~whole, "wav_bytes is a damaged file, which cannot be decoded.")
        errors = add_error(errors, channels != 1, "wav_bytes has ", channels, " channels, but must have 1. Mix them.")
        if self.sample_rate is not None:
            text = f" samples per second, but must have {self.sample_rate}. Resample it."
            errors = add_error(errors, (rates != self.sample_rate) & (errors == ""), "wav_bytes has ", rates, text)
        lengths = tf.cast(samples.row_lengths(), tf.int32)
        values = samples.to_tensor()  # (batch, samples)
        return {self.name: values[..., None] if self.step_shape else values, self.names[self.name]: lengths}, errors

    def sample(self, size: int, length: int) -> dict[str, np.ndarray]:
        """Return a request of `size` silent files of `length` samples."""
        return {"wav_bytes": np.array([_silence(length, self.sample_rate or 16000)] * size, object)}

    def _check(self, files: tf.Tensor) -> tf.Tensor:
        """Return a reason for each row whose header is that of another kind of file."""
        header = tf.strings.join([files, "\0" * HEADER])
        known = (tf.strings.substr(header, 0, 4) == b"RIFF") & (tf.strings.substr(header, 8, 4) == b"WAVE")
        text = 'wav_bytes is not a WAV file. Over REST, send {"b64": "..."}, the file in base64.'
        errors = add_error(no_errors(files), ~known, text)
        # The format is PCM, 1, and a sample has 16 bits, both as little-endian 16-bit integers.
        other = (tf.strings.substr(header, 20, 2) != b"\x01\x00") | (tf.strings.substr(header, 34, 2) != b"\x10\x00")
        other &= tf.strings.substr(header, 12, 4) == b"fmt "
        return add_error(errors, other, "wav_bytes is not PCM with 16 bits per sample. Convert it.")


def _sample_rate(model: Any) -> int | None:
    """Return the sample rate of the model's first layer that has one, None if there is none."""
    layers = model._flatten_layers() if hasattr(model, "_flatten_layers") else []
    # Keras's MelSpectrogram calls it `sampling_rate`.
    rates = [getattr(layer, "sample_rate", getattr(layer, "sampling_rate", None)) for layer in layers]
    return next((round(rate) for rate in rates if isinstance(rate, int | float)), None)


def _decoded(file: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    audio, rate = tf.audio.decode_wav(file)  # (samples, channels)
    return audio[:, 0], tf.shape(audio)[1], rate


def _silence(length: int, sample_rate: int = 16000) -> bytes:
    with tf.init_scope():
        return tf.audio.encode_wav(tf.zeros([length, 1]), sample_rate).numpy()
