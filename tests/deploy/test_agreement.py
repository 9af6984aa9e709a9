"""Tests that names, ports and paths agree between the files of serving/deploy and those that an export writes."""

import dataclasses
import re
from typing import Any

import pytest

from kseq.export.serving_config import serving_files
from kseq_serving import flags
from tests.deploy.conftest import DEPLOY, KUBERNETES, NAME, read_yaml

# Flags of the manifests that an export does not have: numbers of threads, and the longest life of a connection.
OWN_FLAGS = {"tensorflow_intra_op_parallelism", "tensorflow_inter_op_parallelism", "grpc_channel_arguments"}


@pytest.fixture(scope="module")
def deployment() -> dict[str, Any]:
    return read_yaml(KUBERNETES / "deployment.yaml")["spec"]


@pytest.fixture(scope="module")
def pod(deployment: dict) -> dict[str, Any]:
    return deployment["template"]["spec"]


@pytest.fixture(scope="module")
def container(pod: dict) -> dict[str, Any]:
    (only,) = pod["containers"]
    return only


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return read_yaml(DEPLOY / "docker-compose.yaml")["services"]


@pytest.fixture(scope="module")
def written() -> flags.Flags:
    """Flags for a container, as an export writes them."""
    script = serving_files(NAME, (1, 4), lengths=True, one_step=False)["serve.sh"]
    return parsed(re.findall(r"^#   (--.*=/models/.*|--port.*|--rest.*|--grpc.*|--enable.*)$", script, re.MULTILINE))


def parsed(arguments: list[str]) -> flags.Flags:
    found, unknown = flags.parse(arguments)
    assert not unknown
    return found


def compose_arguments(service: dict) -> list[str]:
    return [argument.replace("${MODEL:-dates}", NAME) for argument in service["command"]]


@pytest.mark.parametrize("where", ["kubernetes", "compose"])
def test_the_flags_are_those_that_an_export_says(where, container, compose, written):
    arguments = container["args"] if where == "kubernetes" else compose_arguments(compose["serving"])
    asked, expected = (
        {name: value for name, value in dataclasses.asdict(given).items() if name not in OWN_FLAGS}
        for given in (parsed(arguments), written)
    )
    assert asked == expected
    assert expected["enable_batching"]
    assert expected["model_config_file"] == "/models/dates/models.config"


def test_both_run_the_same_server(container, compose):
    assert container["image"] == compose["serving"]["image"]
    assert re.fullmatch(r"tensorflow/serving:\d+\.\d+\.\d+", container["image"])
    assert container["command"] == compose["serving"]["entrypoint"]


def test_as_many_threads_as_processors(container, compose):
    for arguments, processors in (
        (container["args"], container["resources"]["limits"]["cpu"]),
        (compose["serving"]["command"], compose["serving"]["deploy"]["resources"]["limits"]["cpus"]),
    ):
        given = parsed(arguments)
        assert given.tensorflow_intra_op_parallelism == given.tensorflow_inter_op_parallelism == int(processors)


def test_models_are_mounted_where_the_flags_look(container, pod, compose, written):
    (mount,) = (m for m in container["volumeMounts"] if m["name"] == "models")
    folder = f"{mount['mountPath']}/{NAME}"
    assert mount["readOnly"]
    assert f"{folder}/models.config" == written.model_config_file
    assert [volume.rsplit(":", 2)[1:] for volume in compose["serving"]["volumes"]] == [[mount["mountPath"], "ro"]]
    (volume,) = (v for v in pod["volumes"] if v["name"] == "models")
    loader = read_yaml(KUBERNETES / "loader.yaml")["spec"]
    claims = {volume["persistentVolumeClaim"]["claimName"], loader["volumes"][0]["persistentVolumeClaim"]["claimName"]}
    assert claims == {read_yaml(KUBERNETES / "volume.yaml")["metadata"]["name"]}
    assert loader["containers"][0]["volumeMounts"][0]["mountPath"] == mount["mountPath"]
    assert loader["securityContext"]["fsGroup"] == pod["securityContext"]["runAsGroup"]


def test_ports_have_the_numbers_of_the_flags(container, compose, written):
    numbers = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert numbers == {"grpc": written.port, "rest": written.rest_api_port}
    assert compose["serving"]["ports"] == [f"127.0.0.1:{number}:{number}" for number in numbers.values()]
    service = read_yaml(KUBERNETES / "service.yaml")["spec"]
    assert {port["name"]: port["port"] for port in service["ports"]} == numbers
    assert all(port["targetPort"] == port["name"] for port in service["ports"])
    for probe in ("startupProbe", "readinessProbe"):
        assert container[probe]["httpGet"] == {"path": f"/v1/models/{NAME}", "port": "rest"}


def test_everything_selects_the_deployments_pods(deployment):
    labels = deployment["template"]["metadata"]["labels"]
    budget = read_yaml(KUBERNETES / "disruption-budget.yaml")["spec"]
    assert deployment["selector"]["matchLabels"] == labels == budget["selector"]["matchLabels"]
    assert read_yaml(KUBERNETES / "service.yaml")["spec"]["selector"] == labels
    target = read_yaml(KUBERNETES / "autoscaler.yaml")["spec"]["scaleTargetRef"]
    whole = read_yaml(KUBERNETES / "deployment.yaml")
    assert target == {"apiVersion": whole["apiVersion"], "kind": whole["kind"], "name": whole["metadata"]["name"]}
    assert "replicas" not in deployment  # an `apply` would override the autoscaler


def test_the_metric_of_the_autoscaler_is_the_one_that_is_made():
    (metric,) = read_yaml(KUBERNETES / "autoscaler.yaml")["spec"]["metrics"]
    (rule,) = read_yaml(KUBERNETES / "prometheus-adapter-values.yaml")["rules"]["custom"]
    assert metric["type"] == "Pods"
    assert metric["pods"]["metric"]["name"] == rule["name"]["as"]
    assert re.search(rule["name"]["matches"], ":tensorflow:serving:request_count")
    assert '__name__=":tensorflow:serving:request_count"' in rule["seriesQuery"]
    for label in ("namespace", "pod"):
        assert f'{label}!=""' in rule["seriesQuery"]
        assert rule["resources"]["overrides"][label] == {"resource": label}


def test_prometheus_looks_where_the_metrics_are(deployment, compose, written):
    from google.protobuf import text_format

    from kseq_serving.protocol.protos import MonitoringConfig

    files = serving_files(NAME, (1, 4), lengths=True, one_step=False)
    path = text_format.Parse(files["monitoring.config"], MonitoringConfig()).prometheus_config.path
    annotations = deployment["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/scrape"] == "true"
    assert (annotations["prometheus.io/path"], annotations["prometheus.io/port"]) == (path, str(written.rest_api_port))
    (job,) = read_yaml(DEPLOY / "prometheus.yaml")["scrape_configs"]
    assert job["metrics_path"] == path
    assert job["static_configs"] == [{"targets": [f"serving:{written.rest_api_port}"]}]
    assert "serving" in compose
    assert compose["prometheus"]["volumes"][0].startswith("./prometheus.yaml:")


def test_a_pod_ends_after_its_connections_and_requests(container, pod):
    given = parsed(container["args"])
    (age,) = re.fullmatch(r"grpc\.max_connection_age_ms=(\d+)", given.grpc_channel_arguments).groups()
    waits = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    assert waits >= int(age) / 1000 + given.rest_api_timeout_in_ms / 1000
    assert pod["terminationGracePeriodSeconds"] > waits
    assert pod["shareProcessNamespace"]


def test_nothing_runs_as_root(container, pod, compose):
    assert pod["securityContext"]["runAsNonRoot"]
    assert compose["serving"]["user"] == "{runAsUser}:{runAsGroup}".format(**pod["securityContext"])
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert compose["serving"]["read_only"]
