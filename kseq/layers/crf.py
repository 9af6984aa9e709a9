"""The conditional random field (CRF) as a layer."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from kseq import losses
from kseq.backend import Tensor
from kseq.decoding import CRFDecoded, crf_decode, crf_marginals
from kseq.linear import dense
from kseq.losses.crf_loss import set_layer_of_scores
from kseq.masking import check_mask, implicit_mask, lengths_of_prefixes, refuse_ragged, set_implicit_mask
from kseq.numbers import flag, positive_int
from kseq.short_help import ShortHelp
from kseq.tag_schemes import AllowedTransitions, allowed_transitions

WEIGHTS = ("kernel", "bias", "transitions", "boundary")


@keras.saving.register_keras_serializable(package="kseq")
class CRF(keras.layers.Layer, metaclass=ShortHelp):
    """A linear-chain conditional random field: scores of tags, and learned scores of transitions between them.

        score(y) = sum of scores_t(y_t) + sum of transitions(y_{t-1}, y_t) + start(y_0) + end(y_last)
        P(y)     = exp(score(y)) / sum of exp(score(y')) over all sequences y' of tags

    The layer returns scores_t, and passes their mask on. The transitions, start and end are its weights, which `loss`
    trains and `decode` uses:

        crf = kseq.layers.CRF(num_tags)
        model = keras.Model(inputs, crf(features))
        model.compile("adam", loss=crf.loss)
        model.fit(x, tags)
        crf.decode(model.predict(x), mask)

    A model that was compiled with this loss can be saved and, after `import kseq`, loaded, given that the layer is its
    last one: its output tells the loss where the transitions are.

    Args:
        num_tags: Number of tags, ids 0 to `num_tags - 1`.
        use_kernel: Whether the scores are a projection of the inputs, `inputs @ kernel + bias`. False: the inputs are
            the scores themselves. None: they are if their last axis has the size `num_tags`, and are projected
            otherwise. (`tfa.layers.CRF` projects by default, whatever the size.)
        use_boundary: Whether there are scores for starting and for ending with a tag.
        names: Names of the tags in the order of their ids, for `scheme`.
        scheme: "BIO", "BIOES" or another scheme of `kseq.tag_schemes`: sequences that it does not allow have
            probability zero. None: all sequences are possible.
        constrain_loss: Whether the scheme applies to the loss, too. False: it applies in `decode` and `marginals`
            alone, so that rows of which the tags break the scheme can be trained on.
        kernel_initializer: Initializer of the kernel.
        bias_initializer: Initializer of the bias.
        transitions_initializer: Initializer of the transitions.
        boundary_initializer: Initializer of the scores of starts and ends.
        kernel_regularizer: Regularizer of the kernel.
        bias_regularizer: Regularizer of the bias.
        transitions_regularizer: Regularizer of the transitions.
        boundary_regularizer: Regularizer of the scores of starts and ends.
        kernel_constraint: Constraint of the kernel.
        bias_constraint: Constraint of the bias.
        transitions_constraint: Constraint of the transitions.
        boundary_constraint: Constraint of the scores of starts and ends.
        **kwargs: Those of `keras.layers.Layer`. In mixed precision the projection is computed in half precision, and
            the scores are float32.

    Call arguments:
        inputs: Float `(batch, time, features)`.
        mask: Bool `(batch, time)`, True at the real steps, which come before the padding.

    Returns:
        Scores, float32 `(batch, time, num_tags)`, unnormalised.

    Attributes:
        loss: A `kseq.losses.CRF` with the transitions of this layer, for `Model.compile`.

    Raises:
        ValueError: If an option or the inputs' shape is wrong, or the names do not follow the scheme.

    Example:
        >>> crf = kseq.layers.CRF(5, names=["O", "B-X", "I-X", "B-Y", "I-Y"], scheme="BIO")
        >>> crf.decode(crf(np.zeros((2, 3, 8)))).shape
        (2, 3)

    Reference: J. Lafferty, A. McCallum, F. Pereira, "Conditional random fields: probabilistic models for segmenting and
    labeling sequence data", 2001.
    """

    def __init__(
        self,
        num_tags: int,
        *,
        use_kernel: bool | None = None,
        use_boundary: bool = True,
        names: Sequence[str] | None = None,
        scheme: str | None = None,
        constrain_loss: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        transitions_initializer: Any = "zeros",
        boundary_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        transitions_regularizer: Any = None,
        boundary_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        transitions_constraint: Any = None,
        boundary_constraint: Any = None,
        **kwargs: Any,
    ):
        super().__init__(**{"autocast": False, **kwargs})  # scores that are handed on keep their precision
        self.num_tags = positive_int(self, "num_tags", num_tags)
        self.use_kernel = None if use_kernel is None else flag("use_kernel", use_kernel)
        self.use_boundary = flag("use_boundary", use_boundary)
        self.constrain_loss = flag("constrain_loss", constrain_loss)
        self.names, self.scheme = None if names is None else list(names), scheme
        self.allowed = _allowed(self.num_tags, self.names, scheme)
        kinds = (keras.initializers, keras.regularizers, keras.constraints)
        given = locals()
        self._options = {
            f"{weight}_{kind}": module.get(given[f"{weight}_{kind}"])
            for weight in WEIGHTS
            for kind, module in zip(("initializer", "regularizer", "constraint"), kinds, strict=True)
        }
        self.supports_masking = True
        self.input_spec = keras.layers.InputSpec(ndim=3)
        self.kernel = self.bias = self.start = self.end = None

    def build(self, input_shape: Any) -> None:
        """Create the weights for inputs of a shape."""
        width = input_shape[-1]
        if width is None or (self.use_kernel is False and width != self.num_tags):
            raise ValueError(
                f"The inputs of the CRF have shape {tuple(input_shape)}, but use_kernel={self.use_kernel} and num_tags="
                f"{self.num_tags} need "
                + ("a known last axis." if width is None else "that many scores per step. Leave use_kernel out.")
            )
        if self.use_kernel or (self.use_kernel is None and width != self.num_tags):
            self.kernel = self._weight("kernel", "kernel", (width, self.num_tags))
            self.bias = self._weight("bias", "bias", (self.num_tags,))
        self.transitions = self._weight("transitions", "transitions", (self.num_tags, self.num_tags))
        if self.use_boundary:
            self.start = self._weight("start", "boundary", (self.num_tags,))
            self.end = self._weight("end", "boundary", (self.num_tags,))

    def _weight(self, name: str, options: str, shape: tuple[int, ...]) -> keras.Variable:
        kinds = ("initializer", "regularizer", "constraint")
        return self.add_weight(name=name, shape=shape, **{kind: self._options[f"{options}_{kind}"] for kind in kinds})

    def call(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the scores of tags."""
        refuse_ragged(inputs, "CRF")
        mask = check_mask(mask, inputs)
        if self.kernel is None:
            scores = ops.cast(inputs, "float32")
        else:
            inputs, kernel = (ops.cast(each, self.compute_dtype) for each in (inputs, self.kernel))
            scores = ops.cast(dense(inputs, kernel), "float32") + ops.cast(self.bias, "float32")
        if scores is inputs:  # whose mask and layer are not ours
            scores = scores + 0.0
        if mask is not None:
            set_implicit_mask(scores, mask)
        set_layer_of_scores(scores, self)
        return scores

    def compute_output_spec(self, inputs: Any, mask: Any = None) -> keras.KerasTensor:
        """Return the shape and dtype of the scores."""
        return keras.KerasTensor((*inputs.shape[:-1], self.num_tags), "float32")

    @property
    def loss(self) -> losses.CRF:
        """Return the loss with the transitions of this layer: `kseq.losses.CRF` without options."""
        return losses.CRF.of_layer(self)

    def transition_scores(self, *, in_loss: bool = False) -> dict[str, Any]:
        """Return the keyword arguments of `kseq.decoding.crf_decode`: transitions, start, end and allowed ones.

        Args:
            in_loss: Whether they are those of the loss, to which the scheme may not apply.
        """
        if not self.built:
            raise ValueError(f"The layer {self.name} has no transitions yet. Call it on inputs first.")
        allowed = None if in_loss and not self.constrain_loss else self.allowed
        return {"transitions": self.transitions, "start": self.start, "end": self.end, "allowed": allowed}

    def decode(self, scores: Tensor, mask: Tensor | None = None, *, top_paths: int | None = None) -> Any:
        """Return the most probable sequence of tags of each row.

        Args:
            scores: Float `(batch, time, num_tags)`, what the layer or `Model.predict` returned.
            mask: Bool `(batch, time)`, True at the real steps. None: the Keras mask of the scores, which what
                `predict` returns has not; without one all steps are real.
            top_paths: How many sequences of each row are returned, with their scores.

        Returns:
            Tags, int32 `(batch, time)`, -1 in the padding. With `top_paths` a `kseq.decoding.CRFDecoded`.

        Raises:
            ValueError: As `kseq.decoding.crf_decode`, and if a row of a known mask has padding before a real step.
        """
        lengths = _lengths(scores, mask)
        decoded = crf_decode(
            scores, lengths, top_paths=1 if top_paths is None else top_paths, **self.transition_scores()
        )
        return decoded.tags[:, 0] if top_paths is None else CRFDecoded(*decoded)

    def marginals(self, scores: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the probability of each tag at each step, float32 `(batch, time, num_tags)`; 0 in the padding.

        Args:
            scores: As in `decode`.
            mask: As in `decode`.
        """
        return crf_marginals(scores, _lengths(scores, mask), **self.transition_scores())

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        kinds = {"initializer": keras.initializers, "regularizer": keras.regularizers, "constraint": keras.constraints}
        options = {name: kinds[name.split("_")[1]].serialize(value) for name, value in self._options.items()}
        own = ("num_tags", "use_kernel", "use_boundary", "names", "scheme", "constrain_loss")
        return {**super().get_config(), **{name: getattr(self, name) for name in own}, **options}


def _allowed(num_tags: int, names: list[str] | None, scheme: str | None) -> AllowedTransitions | None:
    """Return what the scheme allows, or raise if names or scheme are missing or wrong."""
    if names is not None and len(names) != num_tags:
        raise ValueError(f"names has {len(names)} names, but num_tags={num_tags} needs one name for each tag.")
    if scheme is None:
        if names is not None:
            raise ValueError(
                'names are given without a scheme, so they have no effect. Give scheme="BIO", or leave both.'
            )
        return None
    if names is None:
        raise ValueError(f"scheme={scheme!r} needs the names of the tags: names=[...].")
    return allowed_transitions(names, scheme)


def _lengths(scores: Tensor, mask: Tensor | None) -> Tensor:
    """Return the lengths of the rows of scores, int32 `(batch,)`."""
    if isinstance(scores, keras.KerasTensor):
        raise ValueError(
            "CRF.decode and CRF.marginals take values, but got a KerasTensor of a Functional model. Give them what the "
            'model returns; kseq.export_saved_model(..., answers="tags") exports the model with its decoding.'
        )
    mask = implicit_mask(scores) if mask is None else mask
    scores = ops.convert_to_tensor(scores)
    if len(scores.shape) != 3:
        raise ValueError(f"scores have shape {tuple(scores.shape)}, but expected (batch, time, tags).")
    if mask is None:
        return ops.full((ops.shape(scores)[0],), ops.shape(scores)[1], dtype="int32")
    return lengths_of_prefixes(check_mask(mask, scores))
