"""Tests of the manifests of a training against the schemas of Kubernetes, and against the script that they run."""

import re
from collections.abc import Callable

import kubernetes_validate
import pytest

from tests.deploy.conftest import DEPLOY, read_yaml
from tests.deploy.test_schemas import VERSIONS, container

TRAINING = DEPLOY / "training"
SCRIPT = DEPLOY.parents[1] / "examples" / "several_machines.py"
MANIFESTS = sorted(path.name for path in TRAINING.glob("*.yaml"))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", MANIFESTS)
def test_kubernetes_takes_them(name: str, version: str):
    kubernetes_validate.validate(read_yaml(TRAINING / name), version, strict=True)


@pytest.mark.parametrize(
    ("breaks", "message"),
    [
        (lambda job: job["spec"].pop("template"), "'template' is a required property"),
        (lambda job: job["spec"].update(completion=2), "'completion' was unexpected"),
        (lambda job: job["spec"].update(parallelism="two"), "'two' is not of type 'integer'"),
        (lambda job: container(job)["env"][0].update(valueFrom="x"), "'x' is not of type 'object'"),
    ],
)
def test_a_broken_job_is_refused(breaks: Callable, message: str):
    job = read_yaml(TRAINING / "job.yaml")
    breaks(job)
    with pytest.raises(kubernetes_validate.ValidationError) as caught:
        kubernetes_validate.validate(job, VERSIONS[-1], strict=True)
    assert message in caught.value.message


def test_each_pod_is_one_of_the_hosts():
    job, service = read_yaml(TRAINING / "job.yaml"), read_yaml(TRAINING / "service.yaml")
    spec, name = job["spec"], job["metadata"]["name"]
    port = container(job)["ports"][0]["containerPort"]
    domain = spec["template"]["spec"]["subdomain"]
    hosts = [each for each in container(job)["args"] if ":" in each]
    assert hosts == [f"{name}-{index}.{domain}:{port}" for index in range(spec["completions"])]
    assert spec["parallelism"] == spec["completions"]
    assert spec["completionMode"] == "Indexed"
    assert (domain, port) == (service["metadata"]["name"], service["spec"]["ports"][0]["port"])
    assert service["spec"]["selector"] == {"batch.kubernetes.io/job-name": name}
    (volume,) = spec["template"]["spec"]["volumes"]
    assert volume["persistentVolumeClaim"]["claimName"] == read_yaml(TRAINING / "volume.yaml")["metadata"]["name"]


def test_the_script_has_the_options_of_the_job():
    job, script = read_yaml(TRAINING / "job.yaml"), SCRIPT.read_text(encoding="utf-8")
    known = set(re.findall(r'add_argument\("(--\w+)"', script))
    used = {each.split("=")[0] for each in container(job)["args"] if each.startswith("--")}
    assert {"--hosts", "--index", "--state"} <= used <= known
    assert container(job)["command"][-1].endswith(f"/{SCRIPT.name}")
