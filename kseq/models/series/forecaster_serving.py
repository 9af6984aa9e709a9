"""The export of a forecaster."""

from typing import Any

from keras import ops

from kseq.backend import Tensor
from kseq.models.export_contract import RowInputs, Serving, ServingOptions, StepInputs
from kseq.models.series.forecast_call import fewest_steps


def serving_of_forecaster(model: Any, options: ServingOptions) -> Serving:
    """Return the `Serving` of a forecaster: from numbers to quantiles, and to paths if its head has samples.

    Raises:
        ValueError: If an option does not apply to a forecaster.
    """
    options.refuse("Forecaster", "strategy", "source", "target", "max_length", "alignments", "class_names")
    if options.seed_input and not model.head.can_sample:
        raise ValueError(f"seed_input=True, but {model.head!r} draws no random numbers. Leave it out.")
    head, reads = model.head, model.reads
    limits = {} if model.difference else {"lowest": head.lowest, "highest": head.highest, "whole": head.whole}
    inputs: dict[str, Any] = {
        "context": StepInputs(
            dtype="float32",
            step_shape=head.event_shape,
            may_be_cut=False,  # a forecast goes on from the end
            fewest=fewest_steps(model),
            may_be_nan=model.missing == "mask",
            refusals=reads.refusals(),
            **limits,
        )
    }
    if reads.num_features:
        shape = (reads.num_features,)
        inputs["context_features"] = StepInputs(
            dtype="float32", step_shape=shape, may_be_cut=False, lengths_of="context"
        )
        inputs["target_features"] = RowInputs(dtype="float32", shape=(model.horizon, *shape))
    if reads.category_sizes:
        last = tuple(size - 1 for size in reads.category_sizes)
        inputs["categories"] = RowInputs(dtype="int32", shape=(len(last),), lowest=0, highest=last)
    if reads.num_numbers:
        inputs["numbers"] = RowInputs(dtype="float32", shape=(reads.num_numbers,))
    if options.seed_input:
        inputs["seed"] = RowInputs(dtype="int64")

    def answer(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        # Without a seed in the request, equal rows get equal answers, whatever their place in the batch.
        seed = tensors["seed"] if options.seed_input else ops.zeros_like(tensors["lengths"])
        forecast = model.forecast_tensors(tensors, model.horizon, model.num_paths, seed)
        return {name: value for name, value in forecast._asdict().items() if value is not None}

    return Serving(inputs, answer)
