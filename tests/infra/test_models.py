"""Two models behind a proxy: complete beside compose.yaml, equal for both, with limits that fit the service's."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.classifier.settings import MEBIBYTE, Settings
from tests.infra.test_infra import COMPOSE, INFRA, ROOT, SERVICES
from tests.monitoring.tools import run

MODELS: dict[str, Any] = yaml.safe_load((INFRA / "compose.models.yaml").read_text())
ADDED: dict[str, dict[str, Any]] = MODELS["services"]
NEW = sorted(set(ADDED) - set(SERVICES))
NGINX = (INFRA / "proxy/nginx.conf").read_text()
BASES = {"retina": "service", "retina-watch": "watch"}


def of_nginx(directive: str) -> list[str]:
    return re.findall(rf"^\s*{directive}\s+([^;]+);", NGINX, re.MULTILINE)


def seconds(directive: str) -> int:
    (text,) = of_nginx(directive)
    return int(text.removesuffix("s"))


def volumes(service: dict[str, Any]) -> dict[str, str]:
    """Return the source of each mounted path, with its mode."""
    # A source may be a variable with a default or an error, which has colons too.
    found = [re.fullmatch(r"(\$\{.+?\}[^:]*|[^:]+):(/[^:]+)(:ro)?", volume) for volume in service["volumes"]]
    return {match[2]: match[1] + (match[3] or "") for match in found if match}


def test_the_second_model_adds_a_service_a_watch_and_a_proxy():
    assert NEW == ["proxy", "retina", "retina-watch"]
    assert set(ADDED["service"]) == {"environment"}
    assert set(ADDED["prometheus"]) == {"volumes"}


@pytest.mark.parametrize("name", BASES)
def test_both_models_run_alike_with_other_names_keys_and_files(name: str):
    ours, base = ADDED[name], SERVICES[BASES[name]]
    own = {"environment", "configs", "ports", "volumes"}
    assert {key: value for key, value in ours.items() if key not in own} == {
        key: value for key, value in base.items() if key not in own
    }
    assert volumes(ours).keys() == volumes(base).keys()
    assert all(source not in volumes(base).values() for source in volumes(ours).values())
    sources = [config["source"] for config in ours["configs"]]
    assert sources == [f"retina_{config['source']}" for config in base["configs"]]
    assert [config["target"] for config in ours["configs"]] == [config["target"] for config in base["configs"]]
    changed = {key for key, value in ours["environment"].items() if base["environment"].get(key) != value}
    assert base["environment"].keys() <= ours["environment"].keys()
    assert (
        changed
        == {
            "retina": {"BUCKLER_MODEL_NAME"},
            "retina-watch": {"BUCKLER_WATCH_SERVICE_URL", "BUCKLER_WATCH_KEY", "BUCKLER_WATCH_DATABASE_URL"},
        }[name]
    )


def test_the_watch_of_a_model_shares_its_keys_and_traffic_with_its_service():
    service, watch = volumes(ADDED["retina"]), volumes(ADDED["retina-watch"])
    assert watch["/var/lib/buckler-keys"] == service["/var/lib/buckler-keys"].removesuffix(":ro") == "retina-keys"
    assert watch["/var/lib/buckler-traffic"] == service["/var/lib/buckler-traffic"] == "retina-traffic"
    assert ADDED["retina-watch"]["environment"]["BUCKLER_WATCH_SERVICE_URL"] == "http://retina:3000"


def test_the_models_have_different_names():
    names = [ADDED[name]["environment"]["BUCKLER_MODEL_NAME"] for name in ("service", "retina")]
    assert len(set(names)) == 2
    profiles = yaml.safe_load((ROOT / "params.yaml").read_text())["profiles"].values()
    known = {profile["publish.model_name"] for profile in profiles}
    assert {re.findall(r":-(.+)}", name)[0] for name in names} <= known


def test_the_proxy_is_hardened_as_the_others():
    same = ("restart", "read_only", "cap_drop", "security_opt", "tmpfs", "pids_limit", "logging", "user")
    assert {key: ADDED["proxy"][key] for key in same} == {key: SERVICES["mlflow"][key] for key in same}
    text = (INFRA / "proxy/Dockerfile").read_text()
    assert re.findall(r"^FROM (\S+)", text, re.MULTILINE) == ["${PYTHON_IMAGE}"]
    assert re.findall(r"^USER (\S+)", text, re.MULTILINE) == [ADDED["proxy"]["user"]]
    assert ADDED["proxy"]["build"]["args"] == ["PYTHON_IMAGE"]
    assert volumes(ADDED["proxy"]) == {
        "/etc/proxy/nginx.conf": "./proxy/nginx.conf:ro",
        "/etc/proxy/listen": "${BUCKLER_PROXY_LISTEN:-./proxy/listen}:ro",
    }
    (health,) = re.findall(r"http://[^']+", " ".join(ADDED["proxy"]["healthcheck"]["test"]))
    assert health.removeprefix("http://").removesuffix("/livez") in of_nginx("listen")


def test_ports_are_bound_to_loopback_and_differ():
    ports = [re.sub(r"^\$\{\w+:-(.+)\}", r"\1", port) for name in NEW for port in ADDED[name]["ports"]]
    assert all(port.startswith("127.0.0.1:") for port in ports)
    published = [port.split(":")[1] for service in SERVICES.values() for port in service["ports"]]
    published += [port.split(":")[1] for port in ports]
    assert len(published) == len(set(published))
    (listen,) = re.findall(r"^listen (\d+);", (INFRA / "proxy/listen/listen.conf").read_text(), re.MULTILINE)
    assert [port.split(":")[-1] for port in ports if "8080" in port] == [listen]


def test_volumes_and_configurations_are_declared():
    for name in NEW:
        mounted = {source.removesuffix(":ro") for source in volumes(ADDED[name]).values()} if name != "proxy" else set()
        assert {source for source in mounted if not source.startswith("$")} <= set(MODELS["volumes"])
        assert {config["source"] for config in ADDED[name].get("configs", [])} <= set(MODELS["configs"])
    assert set(MODELS["volumes"]).isdisjoint(COMPOSE["volumes"])


def test_the_proxy_knows_every_service():
    (lines,) = re.findall(r"map \$name \$service \{(.+?)\}", NGINX, re.DOTALL)
    known = dict(line.split() for line in lines.replace(";", "").strip().splitlines())
    assert known.pop("default") == '""'
    assert known == {"skin": "service:3000", "retina": "retina:3000"}
    assert {address.split(":")[0] for address in known.values()} <= set(SERVICES) | set(ADDED)


def test_the_limits_of_the_proxy_are_beyond_those_of_the_service():
    settings = Settings()
    (size,) = of_nginx("client_max_body_size")
    assert int(size.removesuffix("m")) * MEBIBYTE > settings.body_limit_bytes
    # BentoML's own timeout: services/classifier/service.py.
    assert seconds("proxy_read_timeout") > settings.body_timeout_seconds + settings.request_timeout_seconds + 30
    assert seconds("client_body_timeout") > settings.body_timeout_seconds
    assert seconds("proxy_send_timeout") > settings.body_timeout_seconds
    assert seconds("send_timeout") > settings.send_timeout_seconds
    assert seconds("client_header_timeout") <= settings.head_timeout_seconds


def test_prometheus_scrapes_every_service_and_watch_with_the_rules_labels():
    ours = yaml.safe_load((INFRA / "prometheus/models.yml").read_text())
    base = yaml.safe_load((ROOT / "monitoring/prometheus/prometheus.yml").read_text())
    jobs = ours.pop("scrape_configs")
    base_jobs = {job["job_name"] for job in base.pop("scrape_configs")}
    assert ours == base
    groups = [group for job in jobs for group in job["static_configs"]]
    assert {group["labels"]["job"] for group in groups} == base_jobs
    assert {tuple(group["targets"]): group["labels"]["service"] for group in groups} == {
        ("service:3000",): "skin",
        ("watch:9108",): "skin",
        ("retina:3000",): "retina",
        ("retina-watch:9108",): "retina",
    }
    places = {f"/etc/prometheus/{job['authorization']['credentials_file']}" for job in jobs if "authorization" in job}
    mounted = volumes(SERVICES["prometheus"]) | volumes(ADDED["prometheus"])
    assert {str(Path(place).parent) for place in places} <= mounted.keys()
    assert mounted["/etc/prometheus/prometheus.yml"] == "./prometheus/models.yml:ro"


def test_prometheus_accepts_the_configuration(tmp_path: Path):
    for folder in ("keys", "retina-keys", "targets", "rules"):
        (tmp_path / folder).mkdir()
    for key in ("keys/service.key", "retina-keys/service.key"):
        (tmp_path / key).touch()
    (tmp_path / "targets/alertmanager.yml").write_text("[]")
    (tmp_path / "prometheus.yml").write_text((INFRA / "prometheus/models.yml").read_text())
    run("promtool", "check", "config", tmp_path / "prometheus.yml")
