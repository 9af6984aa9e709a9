"""Tests of the manifests against the schemas of Kubernetes and Compose, which installed packages contain."""

import pathlib
import shutil
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.deploy.conftest import DEPLOY, KUBERNETES, read_yaml

NO_RESOURCES = {"kustomization.yaml", "prometheus-adapter-values.yaml"}
MANIFESTS = sorted(path.name for path in KUBERNETES.glob("*.yaml") if path.name not in NO_RESOURCES)
VERSIONS = (kubernetes_validate.utils.all_versions()[0], kubernetes_validate.latest_version())


def container(deployment: dict[str, Any]) -> dict[str, Any]:
    return deployment["spec"]["template"]["spec"]["containers"][0]


def compose_errors(path: pathlib.Path) -> str:
    """Return the errors of a file by the schema of Compose; empty if there are none."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(path)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    return run.stdout + run.stderr if run.returncode else ""


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", MANIFESTS)
def test_kubernetes_takes_them(name: str, version: str):
    kubernetes_validate.validate(read_yaml(KUBERNETES / name), version, strict=True)


@pytest.mark.parametrize(
    ("name", "breaks", "message"),
    [
        ("deployment.yaml", lambda d: d["spec"].pop("selector"), "'selector' is a required property"),
        (
            "deployment.yaml",
            lambda d: container(d).update(imagePullpolicy="Always"),
            "'imagePullpolicy' was unexpected",
        ),
        (
            "deployment.yaml",
            lambda d: container(d)["ports"][0].update(containerPort="x"),
            "'x' is not of type 'integer'",
        ),
        ("autoscaler.yaml", lambda d: d["spec"].update(minReplicas=[2]), "[2] is not of type 'integer'"),
        ("service.yaml", lambda d: d["spec"].update(port=8500), "'port' was unexpected"),
    ],
)
def test_a_broken_manifest_is_refused(name: str, breaks: Callable[[dict], Any], message: str):
    manifest = read_yaml(KUBERNETES / name)
    breaks(manifest)
    with pytest.raises(kubernetes_validate.ValidationError) as caught:
        kubernetes_validate.validate(manifest, VERSIONS[-1], strict=True)
    assert message in caught.value.message  # str() of the error is empty, so `match` cannot be used


def test_an_unknown_api_is_refused():
    manifest = {**read_yaml(KUBERNETES / "autoscaler.yaml"), "apiVersion": "autoscaling/v2beta2"}
    with pytest.raises(kubernetes_validate.SchemaNotFoundError):
        kubernetes_validate.validate(manifest, VERSIONS[-1], strict=True)


def test_compose_takes_its_file():
    assert compose_errors(DEPLOY / "docker-compose.yaml") == ""


@pytest.mark.parametrize("broken", [{"healthchek": {}}, {"restart": 3}, {"ports": 8500}])
def test_a_broken_compose_file_is_refused(broken: dict, tmp_path: pathlib.Path):
    document = read_yaml(DEPLOY / "docker-compose.yaml")
    document["services"]["serving"].update(broken)
    (tmp_path / "docker-compose.yaml").write_text(yaml.safe_dump(document))
    assert next(iter(broken)) in compose_errors(tmp_path / "docker-compose.yaml")


def test_the_kustomization_has_all_of_them():
    kustomization = read_yaml(KUBERNETES / "kustomization.yaml")
    assert set(kustomization) == {"apiVersion", "kind", "resources"}
    assert sorted(kustomization["resources"]) == [name for name in MANIFESTS if name != "loader.yaml"]


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_kubectl_builds_it():
    built = subprocess.run(["kubectl", "kustomize", str(KUBERNETES)], capture_output=True, text=True, check=True)
    kinds = {document["kind"] for document in yaml.safe_load_all(built.stdout)}
    assert kinds == {read_yaml(KUBERNETES / name)["kind"] for name in MANIFESTS} - {"Pod"}
