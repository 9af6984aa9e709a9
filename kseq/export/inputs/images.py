"""Presets for images: the bytes of PNG and JPEG files, and pixels."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf

from kseq.backend import Tensor
from kseq.export.inputs.decoded_or import decoded_or
from kseq.export.inputs.preset import InputPreset, refuse_shape
from kseq.export.inputs.reader import Reader
from kseq.export.row_errors import add_error, no_errors
from kseq.models.export_contract import Inputs, RowInputs, StepInputs

PNG, JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"


@dataclass(frozen=True, kw_only=True)
class Pixels(InputPreset):
    """Requests contain `pixels` float32: images between 0 and 1, as the model takes them.

    For a model with a fixed width they are `(batch, height, width, channels)`. For one with any width they are `(batch,
    width, height, channels)`, the width first, because servers pad the axis behind the batch, with `lengths` int32
    `(batch,)`, the widths.

    Attributes:
        width_first: Whether the model itself takes `(batch, width, height, channels)`.
    """

    name: ClassVar[str] = "pixels"
    width_first: bool = False

    def inputs(self, model: Any, shape: tuple[Any, ...]) -> StepInputs | RowInputs:
        """Return one image per row, or columns of images."""
        if len(shape) != 4:
            raise refuse_shape(self.name, shape, "(batch, height, width, channels)")
        width, height = shape[1:3] if self.width_first else (shape[2], shape[1])
        if height is None or shape[3] is None:
            raise refuse_shape(self.name, shape, "with a fixed height and number of channels")
        if width is None:
            return StepInputs(dtype="float32", step_shape=(height, shape[3]))
        return RowInputs(dtype="float32", shape=shape[1:])

    def to_model(self, values: Tensor, inputs: StepInputs | RowInputs) -> Tensor:
        """Return the images with their height first, unless the model takes the width first."""
        # One image per row is in the model's own layout.
        columns = isinstance(inputs, StepInputs) and not self.width_first
        return tf.transpose(values, [0, 2, 1, 3]) if columns else values


@dataclass(frozen=True, kw_only=True)
class Png(Pixels):
    """Requests contain `image_bytes` string `(batch,)`, the bytes of PNG or JPEG files.

    Images are decoded, converted to the model's channels, scaled to 0 to 1, and resized bilinearly without
    antialiasing (`tf.image.resize`): to the model's height and width; if the model takes any width, to its height, with
    the width in proportion. A recognizer gets the columns of the image as its frames.

    Attributes:
        channels: 1 for grey, 3 for colours, 4 with transparency. None: those of the model's input; 1 for a recognizer,
            whose frames have `height * channels` values.
    """

    channels: int | None = None

    def reader(self, inputs: Inputs) -> Reader:
        """Return the reader of files."""
        return ImageReader(inputs, width_first=self.width_first, channels=self.channels)


class ImageReader(Reader):
    """Reads images from the bytes of files, see `Png`."""

    def __init__(self, inputs: Inputs, *, width_first: bool, channels: int | None):
        super().__init__(inputs)
        self.padded, self.optional = False, ()
        ((self.name, image),) = inputs.items()
        shape = image.shape if isinstance(image, RowInputs) else image.step_shape
        self.flat = len(shape) == 1  # a recognizer's frames are whole columns
        self.height: Any = None
        self.width: Any = None
        if isinstance(image, RowInputs):
            if len(shape) != 3:
                raise ValueError(
                    f"inputs='png' needs a model that reads images (height, width, channels), but this one reads "
                    f"arrays of shape {shape}. Leave inputs out, so that clients send the numbers."
                )
            self.height, self.width, self.channels = (shape[1], shape[0], shape[2]) if width_first else shape
        elif len(shape) == 2:
            self.height, self.channels = shape
        else:
            channels = channels or 1
            if len(shape) != 1 or shape[0] % channels:
                raise ValueError(
                    f"inputs='png' with channels={channels} needs a model whose frames have one value for each of "
                    f"{channels} channels of a column, but its frames have shape {shape}."
                )
            self.height, self.channels = shape[0] // channels, channels
        if channels not in (None, self.channels):
            raise ValueError(
                f"inputs='png' has channels={channels}, but the model's images have {self.channels}. Leave it out."
            )
        self.width_first = width_first or isinstance(image, StepInputs)

    def specs(self) -> list[tf.TensorSpec]:
        """Return the spec of the files."""
        return [tf.TensorSpec([None], tf.string, name="image_bytes")]

    def read(self, request: dict[str, tf.Tensor]) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        """Return the images; rows that are neither PNG nor JPEG files, or damaged ones, are refused."""
        files = request["image_bytes"]
        start = tf.strings.join([files, "\0" * len(PNG)])
        known = (tf.strings.substr(start, 0, len(PNG)) == PNG) | (tf.strings.substr(start, 0, len(JPEG)) == JPEG)
        text = 'image_bytes is neither a PNG nor a JPEG file. Over REST, send {"b64": "..."}, the file in base64.'
        errors = add_error(no_errors(files), ~known, text)
        shape = self._transposed(self.height, self.width, self.channels)
        image = tf.TensorSpec(shape, tf.float32)
        if self.width is None:
            image = tf.RaggedTensorSpec(shape, tf.float32, ragged_rank=0)
        black = tf.zeros(self._transposed(self.height, self.width or 1, self.channels))
        whole, images = tf.map_fn(
            lambda file: decoded_or(black, self._decoded, file),
            files,
            fn_output_signature=(tf.TensorSpec([], tf.bool), image),
        )
        errors = add_error(errors, ~whole, "image_bytes is a damaged file, which cannot be decoded.")
        if self.width is not None:
            return {self.name: images}, errors
        columns = images
        widths = tf.cast(columns.row_lengths(), tf.int32)
        pixels = columns.to_tensor(shape=[None, None, self.height, self.channels])  # (batch, width, height, channels)
        if self.flat:
            size = self.height * self.channels
            pixels = tf.reshape(pixels, [tf.shape(pixels)[0], tf.shape(pixels)[1], size])
        return {self.name: pixels, self.names[self.name]: widths}, errors

    def sample(self, size: int, length: int) -> dict[str, np.ndarray]:
        """Return a request of `size` black images, `length` wide after resizing."""
        image = tf.zeros([self.height, self.width or length, self.channels], tf.uint8)
        return {"image_bytes": np.array([tf.io.encode_png(image).numpy()] * size, object)}

    def _decoded(self, file: tf.Tensor) -> tf.Tensor:
        """Return an image `(height, width, channels)`, or with its width first."""
        image = tf.io.decode_image(file, channels=self.channels, expand_animations=False)
        image = tf.image.convert_image_dtype(image, tf.float32)
        size = tf.shape(image)
        in_proportion = tf.maximum(1, tf.cast(tf.round(size[1] * self.height / size[0]), tf.int32))
        width = in_proportion if self.width is None else self.width
        image = tf.image.resize(tf.ensure_shape(image, [None, None, self.channels]), [self.height, width])
        return tf.transpose(image, [1, 0, 2]) if self.width_first else image

    def _transposed(self, height: Any, width: Any, channels: Any) -> list[Any]:
        return [width, height, channels] if self.width_first else [height, width, channels]
