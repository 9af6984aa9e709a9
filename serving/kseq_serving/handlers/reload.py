"""Handler of HandleReloadConfigRequest: a new configuration from a client."""

from __future__ import annotations

from kseq_serving.core import ServerCore
from kseq_serving.errors import Code, InvalidArgumentError, ServingError
from kseq_serving.protocol.protos import ReloadConfigRequest, ReloadConfigResponse


def reload_config(
    core: ServerCore, request: ReloadConfigRequest, *, timeout_s: float | None = None
) -> ReloadConfigResponse:
    """Adopt the configuration of a request, and answer when its new models are available.

    Args:
        core: Models of the server.
        request: Configuration, and names of counters whose increase during the reload is returned.
        timeout_s: Longest time to wait for new models, in seconds; None for no limit.

    Raises:
        ServingError: If the configuration is refused, or a new model cannot be loaded in time.
    """
    if core.flags.num_processes > 1:
        raise ServingError(
            Code.FAILED_PRECONDITION,
            f"The request reaches one of the {core.flags.num_processes} processes of --num_processes alone. Edit "
            "--model_config_file, which all of them read again with --model_config_file_poll_wait_seconds.",
        )
    if request.config.WhichOneof("config") != "model_config_list":
        raise InvalidArgumentError(
            "ServerModelConfig type not supported by HandleReloadConfigRequest. Only ModelConfigList is currently "
            "supported"
        )
    before = {name: core.metrics.total(name) for name in request.metric_names}
    core.reload(request.config, timeout_s=timeout_s)
    response = ReloadConfigResponse()
    response.status.SetInParent()
    for name, value in before.items():
        response.metric.add(name=name, int64_value_increase=core.metrics.total(name) - value)
    return response
