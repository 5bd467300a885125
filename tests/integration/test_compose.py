"""examples/cluster/compose.yaml is one that Docker takes, and starts what the docs say."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "cluster"
FILE = FOLDER / "compose.yaml"

#: What the Compose specification knows, as far as one would want it here. Docker refuses others.
TOP = {"name", "services", "networks", "volumes", "configs", "secrets", "include"}
SERVICE = {
    "build", "cap_drop", "command", "configs", "container_name", "cpus", "depends_on", "deploy",
    "entrypoint", "environment", "env_file", "expose", "healthcheck", "hostname", "image", "init",
    "mem_limit", "networks", "pids_limit", "ports", "profiles", "read_only", "restart", "scale",
    "secrets", "security_opt", "stop_grace_period", "stop_signal", "tmpfs", "ulimits", "user",
    "volumes", "working_dir",
}  # fmt: skip
HEALTH = {"test", "interval", "timeout", "retries", "start_period", "start_interval", "disable"}
CONDITIONS = {"service_started", "service_healthy", "service_completed_successfully"}
RESTARTS = {"no", "always", "on-failure", "unless-stopped"}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load(FILE.read_text("utf-8"))
    return read


def problems(document: dict[str, Any]) -> list[str]:
    """What Compose would refuse, or start otherwise than meant."""
    found = [key for key in document if key not in TOP and not key.startswith("x-")]
    services, networks = document["services"], document.get("networks", {})
    for name, service in services.items():
        found += [f"{name}: {key}" for key in service.keys() - SERVICE]
        found += [f"{name}: network {each}" for each in service["networks"] if each not in networks]
        found += [f"{name}: {key}" for key in service.get("healthcheck", {}).keys() - HEALTH]
        for other, how in service.get("depends_on", {}).items():
            condition = how["condition"]
            healthy = condition != "service_healthy" or "healthcheck" in services.get(other, {})
            if other not in services or condition not in CONDITIONS or not healthy:
                found.append(f"{name}: depends on {other}")
        if service.get("restart", "no") not in RESTARTS:
            found.append(f"{name}: restart {service['restart']}")
        found += [
            f"{name}: {word!r} is no text" for word in service["command"] if word != str(word)
        ]
        for volume in service.get("volumes", ()):
            if not (FOLDER / volume.split(":")[0]).exists():
                found.append(f"{name}: {volume}")
    return found


def test_docker_would_take_it(document: dict[str, Any]) -> None:
    assert problems(document) == []


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"servces": {}}, "servces"),
        ({"services": {"node": {"comand": []}}}, "node: comand"),
        ({"services": {"node": {"networks": ["other"]}}}, "node: network other"),
        ({"services": {"node": {"command": ["--port", 8786]}}}, "node: 8786 is no text"),
        ({"services": {"node": {"depends_on": {"boss": {"condition": "service_started"}}}}},
         "node: depends on boss"),
        ({"services": {"node": {"volumes": ["./none.py:/none.py"]}}}, "node: ./none.py:/none.py"),
    ],
)  # fmt: skip
def test_a_mistake_is_found(document: dict[str, Any], change: dict[str, Any], problem: str) -> None:
    services = {
        name: {**service, **change.get("services", {}).get(name, {})}
        for name, service in document["services"].items()
    }
    assert problems({**document, **change, "services": services}) == [problem]


def test_there_are_a_scheduler_and_three_nodes_that_nobody_else_reaches(
    document: dict[str, Any],
) -> None:
    services = document["services"]
    assert services["scheduler"]["command"][:2] == ["dask", "scheduler"]
    assert services["node"]["command"][:2] == ["dask", "worker"]
    assert services["node"]["deploy"]["replicas"] == 3
    assert not [name for name, service in services.items() if "ports" in service]


@pytest.mark.parametrize("name", ["scheduler", "node"])
def test_dask_knows_the_commands(document: dict[str, Any], name: str) -> None:
    from distributed.cli import dask_scheduler, dask_worker

    _, kind, *arguments = document["services"][name]["command"]
    command = {"scheduler": dask_scheduler, "worker": dask_worker}[kind].main
    command.make_context(kind, list(arguments))  # raises for what it does not know


def test_the_image_is_made_of_what_is_there(document: dict[str, Any]) -> None:
    build = document["services"]["scheduler"]["build"]
    context = (FOLDER / build["context"]).resolve()
    assert (context / build["dockerfile"]).resolve() == FOLDER / "Dockerfile"
    for line in (FOLDER / "Dockerfile").read_text("utf-8").splitlines():
        if line.startswith("COPY "):
            for name in line.split()[1:-1]:
                assert (context / name).exists()


def test_the_program_compiles() -> None:
    program = FOLDER / "count_hosts.py"
    compile(program.read_text("utf-8"), str(program), "exec")


def test_docker_takes_it() -> None:
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], check=False,
                                        capture_output=True).returncode:  # fmt: skip
        pytest.skip("docker compose is not installed")
    command = [docker, "compose", "--file", str(FILE), "--profile", "program", "config", "--quiet"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
