"""HandleReloadConfigRequest: another configuration, given by a client."""

from __future__ import annotations

from kseq_serving.core import ServerCore
from kseq_serving.errors import InvalidArgumentError
from kseq_serving.protocol.protos import ReloadConfigRequest, ReloadConfigResponse


def reload_config(
    core: ServerCore, request: ReloadConfigRequest, *, timeout_s: float | None = None
) -> ReloadConfigResponse:
    """Moves to the configuration of a request; answers when its new models are available.

    Args:
        core: the models.
        request: the configuration, and names of counters whose increase the client wants to know.
        timeout_s: the longest to wait for new models.

    Raises:
        ServingError: the configuration is refused, or a new model did not become available.
    """
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
