"""What is handed to Docker, Compose, Kubernetes and systemd says things that exist, and gives streams the time to finish."""

import json
import re
import shlex
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml

from bestserve.proxy import cli
from bestserve.proxy.app import build
from bestserve.proxy.config import Config, parse
from tests.end_to_end.processes import emulated, free_port

ROOT = Path(__file__).parent.parent.parent
DEPLOY = ROOT / "deploy"
DOCKERFILE = re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text(encoding="utf-8"))
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
KUBERNETES = {part["kind"]: part for part in yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text(encoding="utf-8"))}
POD = KUBERNETES["Deployment"]["spec"]["template"]["spec"]
RETRAIN = {part["kind"]: part for part in yaml.safe_load_all((DEPLOY / "kubernetes-retrain.yaml").read_text(encoding="utf-8"))}
JOB = RETRAIN["CronJob"]["spec"]["jobTemplate"]["spec"]["template"]["spec"]
RETRAIN_UNIT = (DEPLOY / "bestserve-retrain.service").read_text(encoding="utf-8")
UNIT = (DEPLOY / "bestserve.service").read_text(encoding="utf-8")

(CONTAINER,) = POD["containers"]
OURS = {name: service for name, service in COMPOSE["services"].items() if service["image"] == "bestserve"}


def config(where: str) -> Config:
    text = {
        "compose": (DEPLOY / "compose.bestserve.yaml").read_text(encoding="utf-8"),
        "kubernetes": KUBERNETES["ConfigMap"]["data"]["bestserve.yaml"],
    }[where]
    return parse(text, {}, source=where)


def commands() -> dict[str, list[str]]:
    """The words after `bestserve`, by where they stand."""
    found = {f"compose {name}": service["command"] for name, service in OURS.items()}
    found["kubernetes"] = CONTAINER["args"]
    found["kubernetes retrain"] = JOB["containers"][0]["args"]
    found["cron retrain"] = shlex.split(re.search(r"^#.*?/bestserve (retrain .*)$", RETRAIN_UNIT, re.MULTILINE).group(1))
    found["systemd retrain"] = shlex.split(re.search(r"^ExecStart=(.*)$", RETRAIN_UNIT, re.MULTILINE).group(1))[1:]
    found["systemd"] = shlex.split(re.search(r"^ExecStart=(.*)$", UNIT, re.MULTILINE).group(1))[1:]
    found |= {f"Dockerfile {number}": json.loads(said) for number, said in enumerate(re.findall(r"^CMD (.*)$", DOCKERFILE, re.MULTILINE))}
    return found


@pytest.mark.parametrize("words", commands().values(), ids=commands().keys())
def test_commands_can_be_parsed(words):
    """Each verb exists and knows its options."""
    if words == ["--help"]:
        return
    cli.main.commands[words[0]].make_context(words[0], list(words[1:]))


@pytest.mark.parametrize("where", ["compose", "kubernetes"])
def test_configs_can_be_used(where):
    """They are read, listen to the outside, and write where a container may."""
    found = config(where)
    assert found.listen.host == "0.0.0.0"
    assert found.replay.dir.is_relative_to(re.search(r"--home-dir (\S+)", DOCKERFILE).group(1))


def test_compose_fits_together():
    """Each backend of the config is a service at its port with a health check that looks there; Prometheus finds the proxy."""
    for backend in config("compose").backends:
        name, port = backend.url.removeprefix("http://").split(":")
        words = COMPOSE["services"][name]["command"]
        assert words[words.index("--port") + 1] == port == COMPOSE["services"][name]["environment"]["BESTSERVE_PORT"]
    (job,) = yaml.safe_load((DEPLOY / "prometheus.yaml").read_text(encoding="utf-8"))["scrape_configs"]
    assert job["static_configs"][0]["targets"] == [f"bestserve:{config('compose').listen.port}"]
    assert f"127.0.0.1:8000:{config('compose').listen.port}" in OURS["bestserve"]["ports"]


def test_kubernetes_fits_together():
    """Probes ask for routes that exist at the port that is listened on; the Service finds the pods; nothing runs as root."""
    routes = {route.path for route in build(config("kubernetes")).routes}
    assert {"/health/liveness", "/health/readiness", "/metrics"} <= routes
    for probe, path in (("startup", "/health/liveness"), ("liveness", "/health/liveness"), ("readiness", "/health/readiness")):
        assert CONTAINER[f"{probe}Probe"]["httpGet"] == {"path": path, "port": "http"}
    assert CONTAINER["ports"] == [{"name": "http", "containerPort": config("kubernetes").listen.port}]
    labels = KUBERNETES["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert KUBERNETES["Service"]["spec"]["selector"] == KUBERNETES["Deployment"]["spec"]["selector"]["matchLabels"] == labels
    uid = str(POD["securityContext"]["runAsUser"])
    assert f"USER {uid}:{uid}" in DOCKERFILE
    assert {mount["name"] for mount in CONTAINER["volumeMounts"]} == {volume["name"] for volume in POD["volumes"]}


def test_retraining_reads_what_serving_writes():
    """The same config, user and volume; the log and the policies are on it, and what is compiled has a place that can be written to."""
    (container,) = JOB["containers"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounts.keys() == {volume["name"] for volume in JOB["volumes"]}
    assert mounts == {mount["name"]: mount["mountPath"] for mount in CONTAINER["volumeMounts"]}
    found = config("kubernetes")
    assert all(folder.is_relative_to(mounts["state"]) for folder in (found.replay.dir, found.policy.dir))
    assert JOB["securityContext"] == POD["securityContext"]
    claim = next(volume for volume in JOB["volumes"] if volume["name"] == "state")["persistentVolumeClaim"]["claimName"]
    assert claim == RETRAIN["PersistentVolumeClaim"]["metadata"]["name"]
    assert {"name": "HOME", "value": mounts["tmp"]} in container["env"]
    for line in ("DynamicUser=yes", "StateDirectory=bestserve", "EnvironmentFile=-/etc/bestserve/environment"):
        assert line in UNIT.splitlines()
        assert line in RETRAIN_UNIT.splitlines()
    assert "User=bestserve" in RETRAIN_UNIT.splitlines()
    assert (DEPLOY / "bestserve-retrain.timer").exists()


def test_streams_get_the_time_to_finish():
    """Whoever would kill us waits longer than we drain."""
    drain = {where: config(where).listen.drain_s for where in ("compose", "kubernetes")}
    assert int(OURS["bestserve"]["stop_grace_period"].removesuffix("s")) > drain["compose"]
    waits = int(CONTAINER["lifecycle"]["preStop"]["exec"]["command"][1])
    assert POD["terminationGracePeriodSeconds"] > waits + drain["kubernetes"]
    default = parse("backends: [{name: a, url: 'http://a', model: m, profile: qwen3-8b-h100}]", {}, source="default").listen.drain_s
    assert int(re.search(r"^TimeoutStopSec=(\d+)$", UNIT, re.MULTILINE).group(1)) > default
    assert int(re.search(r"--stop-timeout (\d+)", DOCKERFILE).group(1)) > default


def test_the_dockerfile_copies_what_it_is_given():
    """What it copies from the checkout exists, and .dockerignore lets it through; the wheel's rooms are all there."""
    copied = {word for line in re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE, re.MULTILINE) for word in line.split()[:-1]}
    let_through = [line[1:] for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line.startswith("!")]
    assert {"proxy", "policy", "profiles", "requirements", "pyproject.toml"} <= copied
    for name in copied:
        assert (ROOT / name).exists()
        assert any(fnmatch(name, pattern) for pattern in let_through)


def test_the_dockerfile_has_its_targets():
    """`serve` and `train`; the last one is what a build without a target gives."""
    stages = re.findall(r"^FROM \S+ AS (\S+)$", DOCKERFILE, re.MULTILINE)
    assert stages[-1] == "serve"
    assert "train" in stages


def test_the_health_check_tells_the_living_from_the_dead():
    """The image's own command, word for word, against a server and against nobody."""
    words = json.loads(re.search(r"^HEALTHCHECK .*? CMD (\[.*\])$", DOCKERFILE, re.MULTILINE).group(1))
    words[0] = sys.executable
    with emulated() as url:
        living = subprocess.run(words, env={"BESTSERVE_PORT": url.rsplit(":", 1)[1]}, capture_output=True, check=False, timeout=20)
    dead = subprocess.run(words, env={"BESTSERVE_PORT": str(free_port())}, capture_output=True, check=False, timeout=20)
    assert living.returncode == 0, living.stderr
    assert dead.returncode == 1
