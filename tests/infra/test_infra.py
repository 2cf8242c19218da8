"""Compose file, images and Bento: complete, hardened, without secrets, without code that the service does not need."""

import fnmatch
import re
import subprocess
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path, PurePosixPath
from typing import Any

import grimp
import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
INFRA = ROOT / "infra"
COMPOSE: dict[str, Any] = yaml.safe_load((INFRA / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
DOCKERFILES = sorted((INFRA / "images").glob("*.Dockerfile"))
EXTRAS = PYPROJECT["project"]["optional-dependencies"]
NOT_SERVED = (
    "dvc",
    "great-expectations",
    "scikit-learn",
    "matplotlib",
    "pandas",
    "apscheduler",
    "mlflow",
    "scipy",
)


def binds(service: dict[str, Any]) -> list[Path]:
    """Return the paths of this repository that a service mounts."""
    sources = [volume.split(":")[0] for volume in service.get("volumes", [])]
    return [INFRA / source for source in sources if source.startswith(".")]


def copied(dockerfile: Path) -> list[str]:
    """Return the paths that an image copies from the build context."""
    text = dockerfile.read_text().replace("\\\n", " ")
    lines = [line.split()[1:] for line in text.splitlines() if line.startswith("COPY ")]
    return [source for line in lines if not line[0].startswith("--from") for source in line[:-1]]


def test_compose_runs_the_whole_platform():
    assert set(SERVICES) == {"mlflow", "service", "watch", "console", "prometheus", "alertmanager", "grafana"}


@pytest.mark.parametrize("name", SERVICES)
def test_every_container_is_hardened_and_has_a_health_check(name: str):
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert int(service["user"].split(":")[0]) > 0
    assert service["healthcheck"]["test"][0] == "CMD"
    assert not service.get("privileged")
    assert "network_mode" not in service


@pytest.mark.parametrize("name", SERVICES)
def test_ports_are_bound_to_loopback_only(name: str):
    ports = SERVICES[name]["ports"]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_no_two_containers_publish_the_same_port():
    ports = [port.split(":")[1] for service in SERVICES.values() for port in service["ports"]]
    assert len(ports) == len(set(ports))


@pytest.mark.parametrize("name", SERVICES)
def test_mounts_from_the_repository_exist_and_are_read_only(name: str):
    service = SERVICES[name]
    for path in binds(service):
        assert path.exists(), path
    assert all(volume.endswith(":ro") for volume in service.get("volumes", []) if volume.startswith("."))


@pytest.mark.parametrize("name", SERVICES)
def test_named_volumes_and_dependencies_are_declared(name: str):
    service = SERVICES[name]
    named = {volume.split(":")[0] for volume in service.get("volumes", []) if not volume.startswith(".")}
    assert named <= set(COMPOSE["volumes"])
    assert set(service.get("depends_on", [])) <= set(SERVICES)
    assert {config["source"] for config in service.get("configs", [])} <= set(COMPOSE["configs"])


def test_the_compose_file_has_no_secret_and_mounts_only_the_public_key():
    text = (INFRA / "compose.yaml").read_text()
    assert not re.search(r"(?i)password\s*[:=]|secret\s*[:=]|token\s*[:=]|BEGIN .*PRIVATE|verdict\.pem", text)
    for role in ("verdict", "promotion"):
        assert COMPOSE["configs"][f"{role}_key"]["file"].rstrip("}").endswith(f"{role}.pub")


def test_one_container_writes_the_api_keys_and_the_others_only_read_them():
    places = {
        name: volume.split(":")[1:]
        for name, service in SERVICES.items()
        for volume in service.get("volumes", [])
        if volume.split(":")[0] == "keys"
    }
    assert places == {
        "service": ["/var/lib/buckler-keys", "ro"],
        "watch": ["/var/lib/buckler-keys"],
        "console": ["/var/lib/buckler-keys", "ro"],
        "prometheus": ["/etc/prometheus/keys", "ro"],
    }
    # The watch owns the files; Prometheus runs as another user and reads them through the group.
    assert SERVICES["service"]["user"] == SERVICES["watch"]["user"]
    assert SERVICES["prometheus"]["group_add"] == [SERVICES["watch"]["user"]]
    for dockerfile in DOCKERFILES:
        text = dockerfile.read_text()
        assert "BUCKLER_API_KEYS=/var/lib/buckler-keys/api.json" in text
        assert "--mode 0750 /var/lib/buckler-keys" in text


def test_the_service_in_a_container_requires_keys():
    text = (INFRA / "images/service.Dockerfile").read_text()
    assert "BUCKLER_HOST=0.0.0.0" in text
    assert "BUCKLER_REQUIRE_KEYS" not in text + (INFRA / "compose.yaml").read_text()


def test_foreign_images_are_pinned_and_own_images_have_a_dockerfile():
    for service in SERVICES.values():
        if "build" in service:
            assert (INFRA / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
        else:
            assert re.search(r":v?\d+\.\d+\.\d+\$\{[A-Z]+_DIGEST:-\}$", service["image"])


def test_the_base_of_own_images_can_be_pinned_by_digest():
    for dockerfile in DOCKERFILES:
        bases = re.findall(r"^FROM (\S+)", dockerfile.read_text(), re.MULTILINE)
        assert set(bases) == {"${PYTHON_IMAGE}"}
    own = [service["build"] for service in SERVICES.values() if "build" in service]
    assert all(build["args"] == ["PYTHON_IMAGE"] for build in own)


def installer(text: str) -> str:
    """Return what the command in ``text`` extracts for pip from the lock."""
    (command,) = re.findall(r"sed -n '(.+?)' requirements\.lock", text)
    return subprocess.run(
        ["sed", "-n", command, ROOT / "requirements.lock"], capture_output=True, text=True, check=True
    ).stdout


@pytest.mark.parametrize("file", [ROOT / "Makefile", *DOCKERFILES], ids=lambda path: path.stem)
def test_the_installer_is_installed_by_hash(file: Path):
    text = file.read_text()
    lines = installer(text).splitlines()
    assert re.fullmatch(r"uv==\d\S+ \\", lines[0])
    hashes = [line for line in lines[1:] if not line.strip().startswith("#")]
    assert hashes
    assert all(re.fullmatch(r"    --hash=sha256:[0-9a-f]{64}( \\)?", line) for line in hashes)
    installs = [line for line in text.replace("\\\n", " ").splitlines() if "pip install" in line or "pip sync" in line]
    commands = [part for line in installs for part in line.split("&&") if " pip " in part]
    for command in commands:
        # The project itself, without dependencies and without a build environment, downloads nothing.
        assert "--require-hashes" in command or "--no-build-isolation --editable ." in command, command
    assert len(commands) >= 2


def test_prometheus_scrapes_the_containers_at_their_ports():
    port = {"service": "3000", "watch": "9108", "alertmanager": "9093"}
    for name, expected in port.items():
        (group,) = yaml.safe_load((INFRA / f"prometheus/targets/{name}.yml").read_text())
        assert group["targets"] == [f"{name}:{expected}"]
        assert f"127.0.0.1:{expected}:{expected}" in SERVICES[name]["ports"]
        assert (ROOT / f"monitoring/prometheus/targets/{name}.yml").is_file()


def test_the_console_has_the_addresses_of_the_other_containers():
    environment = SERVICES["console"]["environment"]
    urls = {name: text for name, text in environment.items() if name.endswith("_URL") and "DATABASE" not in name}
    for name, url in urls.items():
        container = name.removeprefix("BUCKLER_").removesuffix("_URL").lower()
        (published,) = SERVICES[container]["ports"]
        assert url == f"http://{container}:{published.split(':')[-1]}"
    assert len(urls) == 4


def test_the_console_reads_the_history_that_the_watch_writes():
    variable = "BUCKLER_WATCH_DATABASE_URL"
    assert SERVICES["console"]["environment"][variable] == SERVICES["watch"]["environment"][variable]
    assert "watch:/project/.buckler:ro" in SERVICES["console"]["volumes"]


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.stem)
def test_an_image_copies_existing_files_installs_pinned_packages_and_runs_without_root(dockerfile: Path):
    text = dockerfile.read_text()
    sources = copied(dockerfile)
    assert sources
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for source in sources:
        assert (ROOT / source).exists(), source
        assert any(source == each or source.startswith(f"{each}/") for each in allowed), source
    assert "--constraints requirements.lock" in text
    users = re.findall(r"^USER (\S+)", text, re.MULTILINE)
    assert users[-1:] == ["10001"]
    installed = set(re.findall(r"--extra (\w+)", text))
    own = {"serve"} if dockerfile.stem == "service" else {"console", "train"}
    assert installed == {"cpu", "pkcs11", "postgres"} | own


def test_the_service_writes_to_its_volume():
    text = (INFRA / "images/service.Dockerfile").read_text()
    (volume,) = re.findall(r"^VOLUME (\S+)", text, re.MULTILINE)
    places = re.findall(r"(?:BUCKLER_RELEASES_DIR|BUCKLER_AUDIT_LOG|BENTOML_HOME)=(\S+)", text)
    assert len(places) == 3
    assert all(place.startswith(f"{volume}/") for place in places)


def imported_by_the_service() -> set[str]:
    """Return the files of this repository that the service imports, directly or not."""
    graph = grimp.build_graph("buckler", "services", cache_dir=None)
    own = graph.find_descendants("services.classifier") | {"services.classifier"}
    modules = own.union(*(graph.find_upstream_modules(module) for module in own))
    modules |= {parent for module in modules for parent in _parents(module)}
    return {_file(module) for module in modules}


def _parents(module: str) -> list[str]:
    parts = module.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts))]


def _file(module: str) -> str:
    base = Path("src" if module.startswith("buckler") else ".", *module.split("."))
    package = base / "__init__.py"
    return str(PurePosixPath(package if (ROOT / package).is_file() else base.with_suffix(".py")))


def test_the_service_image_contains_the_imports_of_the_service_and_no_training_code():
    sources = copied(INFRA / "images/service.Dockerfile")
    files = imported_by_the_service()
    missing = {f for f in files if not any(f == source or f.startswith(f"{source}/") for source in sources)}
    assert missing == set()
    for source in sources:
        assert not re.search(r"attacks|training|evaluation|expectations|pipelines", source)
        assert source not in ("src", "src/buckler", "src/buckler/data")


def test_the_bento_contains_the_imports_of_the_service_and_no_training_code():
    patterns = [pattern.lstrip("/") for pattern in PYPROJECT["tool"]["bentoml"]["build"]["include"]]
    packed = {
        str(path.relative_to(ROOT))
        for folder in ("src", "services")
        for path in (ROOT / folder).rglob("*.py")
        for pattern in patterns
        if fnmatch.fnmatch(str(path.relative_to(ROOT)), pattern + "*" * pattern.endswith("/"))
    }
    assert imported_by_the_service() <= packed
    assert not [path for path in packed if re.search(r"attacks|training|evaluation|expectations", path)]


def closure(requirements: list[str]) -> set[str]:
    """Return the names of the packages that ``requirements`` need, directly or not, as installed here."""
    waiting = [Requirement(each) for each in requirements]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        requirement = waiting.pop()
        key = (re.sub(r"[-_.]+", "-", requirement.name).lower(), frozenset(requirement.extras))
        if key in seen:
            continue
        seen.add(key)
        try:
            needs = distribution(requirement.name).requires or []
        except PackageNotFoundError:
            continue  # for another platform
        for need in map(Requirement, needs):
            environments = [{"extra": extra} for extra in (requirement.extras or {""})]
            if need.marker is None or any(need.marker.evaluate(each) for each in environments):
                waiting.append(need)
    return {name for name, _ in seen}


def test_the_extra_serve_installs_no_package_of_the_pipeline():
    served = closure(PYPROJECT["project"]["dependencies"] + EXTRAS["serve"])
    assert {"bentoml", "openvino", "mlflow-skinny", "prometheus-client"} <= served
    assert served.isdisjoint({"tensorflow-cpu", "tensorflow", "keras", "nncf"})
    assert served.isdisjoint(NOT_SERVED)
    assert not [name for name in served if name.startswith("dvc")]


def test_the_extra_train_installs_packages_of_the_pipeline():
    assert {"dvc", "great-expectations", "mlflow", "pandas"} <= closure(EXTRAS["train"])


def test_the_bento_installs_the_packages_of_the_extra_serve():
    packages = PYPROJECT["tool"]["bentoml"]["build"]["python"]["packages"]
    assert set(packages) == set(EXTRAS["serve"])
