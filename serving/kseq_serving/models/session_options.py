"""Options of TensorFlow sessions, from the command-line flags."""

from __future__ import annotations

from kseq_serving.errors import InvalidArgumentError
from kseq_serving.flags import Flags
from kseq_serving.models.model_config import read_text_proto
from kseq_serving.protocol.protos import ConfigProto


def session_config(flags: Flags) -> ConfigProto:
    """Return the options of all sessions.

    Raises:
        InvalidArgumentError: If the flags contradict each other, or name a file that cannot be read.
    """
    config = ConfigProto()
    if flags.tensorflow_session_config_file:
        read_text_proto(flags.tensorflow_session_config_file, config)
    config.gpu_options.per_process_gpu_memory_fraction = flags.per_process_gpu_memory_fraction
    both, intra, inter = (
        flags.tensorflow_session_parallelism,
        flags.tensorflow_intra_op_parallelism,
        flags.tensorflow_inter_op_parallelism,
    )
    if both > 0 and intra > 0 and inter > 0:
        raise InvalidArgumentError(
            "Either configure server_options.tensorflow_session_parallelism or "
            "(server_options.tensorflow_intra_op_parallelism, server_options.tensorflow_inter_op_parallelism) "
            "separately. You cannot configure all."
        )
    separately = intra > 0 or inter > 0
    config.intra_op_parallelism_threads = intra if separately else both
    config.inter_op_parallelism_threads = inter if separately else both
    return config
