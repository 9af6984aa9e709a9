"""The inputs and the answers of an exported language model."""

from collections.abc import Callable
from typing import Any

from keras import ops

from kseq.backend import Tensor, fresh_seed
from kseq.decoding import Decoded, GreedySearch, Sampling, get_strategy
from kseq.decoding.request_sampling import RequestOptions, RequestSampling
from kseq.masking import mask_from_lengths
from kseq.models.export_contract import Inputs, RowInputs, Serving, ServingOptions, StepInputs, check_tokenizers

LEAST_TEMPERATURE, MOST_TEMPERATURE = 0.01, 100.0  # beyond, samples are the greedy answer, or noise
LEAST_MASS = 0.001  # of `top_p`
ANY_SEED = -1  # draws other numbers at each request
LOG_PROBABILITY = "serving_log_probability"
SEED = RowInputs(dtype="int64", default=ANY_SEED, optional=True)


def serving_of_language_model(model: Any, options: ServingOptions) -> Serving:
    """Return the `Serving` of a `LanguageModel`: from prompts to continuations, and from texts to log-probabilities.

    Args:
        model: The model.
        options: Options of the export. The default strategy is sampling, the default `max_length`, of continuations,
            twice the largest bucket.

    Raises:
        ValueError: If an option does not apply to a language model, a tokenizer does not fit it, or the strategy is
            neither sampling nor greedy search.
    """
    options.refuse("LanguageModel", "alignments", "class_names")
    for tokenizer in (options.source, options.target):
        check_language_tokenizer(model, tokenizer)
    strategy = _sampling(options.strategy)
    most = 2 * options.longest if options.max_length is None else options.max_length

    def answer(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        decoded = model.decode(
            inputs["prompt"],
            inputs["lengths"],
            strategy=_of_request(strategy, inputs),
            max_length=options.longest + most,
            seed=_drawn(inputs["seed"]),
        )
        return _continuations(decoded, inputs["lengths"], most, model.pad_id)

    rows = _row_inputs(strategy, most, model.vocabulary_size)
    fewest = 1 if model.bos_id is None else 0
    prompt = StepInputs(
        dtype="int32",
        pad_value=model.pad_id,
        vocabulary_size=model.vocabulary_size,
        fewest=fewest,
        may_be_cut=False,
        refusals=(_without(model.eos_id),),
    )
    return Serving(
        {"prompt": prompt, **rows},
        answer,
        padding={"tokens": model.pad_id},
        signatures={LOG_PROBABILITY: _serving_of_probability(model)},
    )


def _sampling(strategy: Any) -> Sampling:
    """Return the strategy of an export; greedy search is sampling from one token."""
    found = Sampling() if strategy is None else get_strategy(strategy)
    if type(found) is GreedySearch:
        return Sampling(top_k=1, min_length=found.min_length, constraints=found.constraints)
    if type(found) is not Sampling:
        # Prompts of a batch end at different steps, and so do continuations. Other strategies search on for a row until
        # the whole batch has ended, and rank hypotheses by tokens beyond the row's own end.
        raise ValueError(
            f"strategy={found!r}, but an exported LanguageModel samples: give kseq.decoding.Sampling(...) or 'greedy'. "
            "In Python, generate takes every strategy."
        )
    return found


def _row_inputs(strategy: Sampling, most: int, vocabulary_size: int) -> Inputs:
    """Return the options of a request for sampling; those of the strategy are their defaults."""
    return {
        "temperature": RowInputs(
            dtype="float32",
            lowest=LEAST_TEMPERATURE,
            highest=MOST_TEMPERATURE,
            default=strategy.temperature,
            optional=True,
        ),
        "top_k": RowInputs(
            dtype="int32",
            lowest=0,
            highest=vocabulary_size,
            default=min(strategy.top_k, vocabulary_size),
            optional=True,
        ),
        "top_p": RowInputs(dtype="float32", lowest=LEAST_MASS, highest=1, default=strategy.top_p, optional=True),
        "max_length": RowInputs(dtype="int32", lowest=1, highest=most, default=most, optional=True),
        "seed": SEED,
    }


def _without(eos_id: int) -> tuple[str, Callable[[Tensor, Tensor], Tensor]]:
    """Return the reason why prompts with an end token are refused, and the function that finds them."""

    def applies(prompt: Tensor, lengths: Tensor) -> Tensor:
        real = mask_from_lengths(lengths, ops.shape(prompt)[1])
        return ops.any(ops.logical_and(prompt == eos_id, real), axis=1)

    return f"prompt contains the token {eos_id}, which ends a text, so that nothing can follow it.", applies


def _drawn(seeds: Tensor) -> Tensor:
    """Return seeds, int64 `(batch,)`, with random ones in place of `ANY_SEED`."""
    others = ops.cast(fresh_seed(), "int64") + ops.arange(ops.shape(seeds)[0], dtype="int64")
    return ops.where(seeds == ANY_SEED, others, seeds)


def _of_request(strategy: Sampling, inputs: dict[str, Tensor]) -> RequestSampling:
    """Return a strategy with the options of a request, and the others of `strategy`."""
    options = RequestOptions(inputs["temperature"], inputs["top_k"], inputs["top_p"], inputs["max_length"])
    names = ("min_length", "constraints", "min_p", "typical_p", "num_samples")
    return RequestSampling(options=options, **{name: getattr(strategy, name) for name in names})


def _continuations(decoded: Decoded, prompt_lengths: Tensor, most: int, pad_id: int) -> dict[str, Tensor]:
    """Return the tokens after the prompts, int32 `(batch, n, most)`, their lengths and scores."""
    lengths = ops.clip(decoded.lengths - prompt_lengths[:, None], 0, most)
    places = ops.arange(most, dtype="int32")
    # The prompt of a refused row is empty, so no place is beyond the last one.
    index = prompt_lengths[:, None, None] + places  # (batch, 1, most)
    index = ops.broadcast_to(index, (*ops.shape(decoded.tokens)[:2], most))
    tokens = ops.take_along_axis(decoded.tokens, index, axis=2)
    tokens = ops.where(places < lengths[..., None], tokens, pad_id)
    return {"tokens": tokens, "lengths": lengths, "scores": decoded.scores}


def _serving_of_probability(model: Any) -> Serving:
    """Return the `Serving` of the signature that answers with the log-probabilities of texts."""

    def answer(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        tokens, lengths = ops.pad(inputs["tokens"], [(0, 0), (0, 1)]), inputs["lengths"]
        is_end = ops.arange(ops.shape(tokens)[1], dtype="int32") == lengths[:, None]
        counted = lengths + 1 if model.bos_id is not None else lengths
        return {
            "log_probability": model.score(ops.where(is_end, model.eos_id, tokens), lengths + 1),
            "num_tokens": counted,
        }

    tokens = StepInputs(dtype="int32", pad_value=model.pad_id, vocabulary_size=model.vocabulary_size, may_be_cut=False)
    return Serving({"tokens": tokens}, answer)


def check_language_tokenizer(model: Any, tokenizer: Any) -> None:
    """Raise ValueError if a tokenizer, where there is one, does not fit a language model.

    Args:
        model: A model with `vocabulary_size`, `bos_id` and `eos_id`.
        tokenizer: A tokenizer of `kseq.text`, or None.
    """
    if tokenizer is None:
        return
    check_tokenizers({"prompt": StepInputs(dtype="int32", vocabulary_size=model.vocabulary_size)}, tokenizer)
    if tokenizer.eos_id != model.eos_id or model.bos_id not in (None, tokenizer.bos_id):
        raise ValueError(
            f"The tokenizer has bos_id={tokenizer.bos_id} and eos_id={tokenizer.eos_id}, but the model has "
            f"bos_id={model.bos_id} and eos_id={model.eos_id}. Make the model with those of the tokenizer."
        )
    config = tokenizer.get_config()
    if config["add_bos"] or config["add_eos"]:
        raise ValueError(
            "The tokenizer adds begin or end tokens, but a LanguageModel adds them by itself, and a prompt has no end. "
            "Make the tokenizer with add_bos=False and add_eos=False."
        )
