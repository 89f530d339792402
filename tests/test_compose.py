"""docker-compose.yml: what has to hold of every service, without an engine (deploy/smoke.sh).

Where `docker compose` is installed, it reads the file too.
"""

import os
import re
import shutil
import stat
import subprocess
import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from app.core import settings
from app.core.settings import Settings

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docker-compose.yml").read_text()
EXAMPLE = (ROOT / ".env.example").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
JOIN = (ROOT / "deploy/compose.join.yml").read_text()
WORKER = (ROOT / "deploy/compose.worker.yml").read_text()
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name for name, each in SERVICES.items() if each["image"].startswith("etude-")}
ONCE = {"prepare", "migrate"}
VARIABLE = re.compile(r"\$\{(\w+)")


def volumes(name: str) -> dict[str, str]:
    """What a service has mounted: source by place."""
    found = {}
    for each in SERVICES[name].get("volumes", []):
        source, _, place = re.sub(r"\$\{\w+:-(.+?)\}", r"\1", each).partition(":")
        found[place.removesuffix(":ro")] = source
    return found


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_held_to_its_bounds(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["pids_limit"] > 0
    assert service["logging"]["options"] == {"max-size": "10m", "max-file": "5"}
    if name in ONCE:
        assert service["restart"] == "no"
    else:
        assert service["restart"] == "unless-stopped"
        assert "mem_limit" in service
        assert "healthcheck" in service


def test_each_image_is_built_once() -> None:
    built = [each["image"] for each in SERVICES.values() if "build" in each]
    assert sorted(built) == sorted({SERVICES[name]["image"] for name in OURS})
    for each in SERVICES.values():
        if "build" in each:
            stage = each["build"]["target"]
            assert re.search(rf"^FROM base AS {stage}$", (ROOT / "Dockerfile").read_text(), re.M)


def test_images_bear_the_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    images = {SERVICES[name]["image"] for name in OURS}
    assert images == {f"etude-{kind}:${{ETUDE_VERSION:-{version}}}" for kind in ("web", "worker")}
    assert f"#ETUDE_VERSION={version}\n" in EXAMPLE
    labelled = re.findall(r"ARG VERSION=(\S+)", (ROOT / "Dockerfile").read_text())
    assert labelled == [version, version]
    assert f"## {version} – " in (ROOT / "CHANGELOG.md").read_text()


def test_caddy_reaches_the_web_where_it_is_believed() -> None:
    web, caddy = SERVICES["web"], SERVICES["caddy"]
    aliases = {name for name, each in web["networks"].items() if each.get("aliases") == ["etude"]}
    assert aliases == {"proxy"}, "Caddy would have another address than the one that is trusted"
    config = (ROOT / "deploy/compose/Caddyfile").read_text()
    assert "reverse_proxy etude:8000" in config
    # It is healthy only where the web answers through it.
    asked = urlsplit(caddy["healthcheck"]["test"][-1])
    assert f"http://{asked.netloc} {{" in config
    assert f"reverse_proxy {asked.path} etude:8000" in config
    address = caddy["networks"]["proxy"]["ipv4_address"]
    assert f"{address}/32" in web["environment"]["ETUDE_TRUSTED_PROXIES"]


def test_the_web_sees_the_name_of_its_machine() -> None:
    assert SERVICES["web"]["uts"] == "host"
    assert "hostname" not in SERVICES["web"]
    assert all("uts" not in SERVICES[name] for name in set(SERVICES) - {"web"})


def test_the_owners_password_is_where_it_is_needed_and_nowhere_else() -> None:
    assert {name for name in SERVICES if "password-owner" in volumes(name).values()} == {
        "prepare", "migrate", "backup", "postgres",
    }  # fmt: skip
    owner_urls = {name for name in OURS if "DATABASE_OWNER_URL" in SERVICES[name]["environment"]}
    assert owner_urls == {"migrate", "backup"}
    # Those of .env that an older Etude wanted are emptied in every container but the one for them.
    for name in OURS - {"prepare"}:
        environment = SERVICES[name]["environment"]
        assert SERVICES[name]["env_file"] == [{"path": ".env", "required": False}]
        for old in ("POSTGRES", "POSTGRES_APP", "VALKEY"):
            assert environment[f"ETUDE_{old}_PASSWORD"] == ""


def test_no_password_stands_on_a_command_line_or_in_an_environment() -> None:
    for name, service in SERVICES.items():
        for key, value in service.get("environment", {}).items():
            is_for_prepare = name == "prepare"
            assert is_for_prepare or "PASSWORD" not in key or value == "" or "/run/etude" in value
        assert "@postgres" not in str(service.get("command", ""))
    assert not re.search(r"://\w+:[^@/]+@", TEXT)


def test_what_trains_and_what_keeps_data_reaches_nothing_outside() -> None:
    networks = COMPOSE["networks"]
    for name in ("gpu-worker", "cpu-trainer", "postgres", "valkey", "backup", "migrate"):
        assert SERVICES[name]["networks"] == ["data"], name
    assert networks["data"]["internal"] is networks["metrics"]["internal"] is True
    assert SERVICES["prepare"]["network_mode"] == "none"


def test_nothing_is_published_to_other_machines_unless_somebody_says_so() -> None:
    published = {name: SERVICES[name]["ports"] for name in SERVICES if "ports" in SERVICES[name]}
    assert set(published) == {"web", "caddy", "grafana"}
    assert published["web"] == ["${ETUDE_PUBLISH:-127.0.0.1:8000}:8000"]
    assert published["grafana"][0].startswith("${ETUDE_MONITORING_PUBLISH:-127.0.0.1:3000}")
    assert SERVICES["caddy"]["profiles"] == ["https"]


def test_a_worker_has_the_time_for_a_checkpoint() -> None:
    drain = Settings.model_fields["drain_seconds"].default
    for name in ("gpu-worker", "cpu-trainer"):
        assert int(SERVICES[name]["stop_grace_period"].removesuffix("s")) >= drain + 15


def test_without_an_env_file_everything_can_be_read() -> None:
    assert ":?" not in TEXT, "even down would fail"
    needed = re.findall(r"\$\{\w+\}", TEXT)
    assert needed == []


def test_every_line_of_the_example_is_explained_and_means_something() -> None:
    known = {f"ETUDE_{name.upper()}" for name in Settings.model_fields}
    in_compose = set(VARIABLE.findall(TEXT + JOIN)) | {"COMPOSE_PROFILES", "COMPOSE_FILE"}
    blocks = [block for block in EXAMPLE.split("\n\n") if not block.startswith("# ---")]
    named = set()
    for block in blocks[1:]:
        lines = block.strip().splitlines()
        variables = [re.fullmatch(r"#?([A-Z_]+)=.*", line) for line in lines]
        named |= {match[1] for match in variables if match}
        assert lines[0].startswith("# "), block
        assert any(variables), block
    assert named <= known | in_compose
    read = {name for name in in_compose if name.startswith("ETUDE_")} - known
    seldom = {"ETUDE_REVISION"}  # of the image's label
    assert read - named - seldom == set()


def test_whatever_stands_in_env_is_no_unknown_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    before = settings.unknown()
    names = set(VARIABLE.findall(TEXT + JOIN + WORKER)) | set(re.findall(r"ETUDE_[A-Z_]+", EXAMPLE))
    for service in SERVICES.values():
        names |= set(service.get("environment", {}))
    for name in names:
        if name.startswith("ETUDE_"):
            monkeypatch.setenv(name, "1")
    assert settings.unknown() == before


def test_what_is_mounted_lies_in_the_repository() -> None:
    for name in SERVICES:
        for source in volumes(name).values():
            if source.startswith("./deploy/"):
                assert (ROOT / source).is_file(), source
            elif not source.startswith("./"):
                assert source in COMPOSE["volumes"], source


def test_passwords_are_made_once_and_a_wrong_one_is_told(tmp_path: Path) -> None:
    script = (ROOT / "deploy/compose/prepare.sh").read_text()
    for place in ("/run/etude", "/servers", "/data", "/backups"):
        script = re.sub(rf"{place}(?![a-z])", f"{tmp_path}{place}", script)
    # Nobody may be given files by whoever runs tests.
    script = re.sub(r"-exec chown -h \S+ \{\} \+", "-print", script)
    script = re.sub(r"^chown .*$", "", script, flags=re.M)
    for folder in ("owner", "database", "broker", "metrics", "grafana"):
        (tmp_path / "run/etude" / folder).mkdir(parents=True)
    for folder in ("data", "backups", "servers/postgres", "servers/valkey"):
        (tmp_path / folder).mkdir(parents=True)
    given = dict.fromkeys(
        (f"ETUDE_{n}" for n in ("POSTGRES_PASSWORD", "POSTGRES_APP_PASSWORD", "VALKEY_PASSWORD")),
        "",
    ) | {"ETUDE_METRICS_TOKEN": ""}

    def prepare(**more: str) -> tuple[int, str]:
        done = subprocess.run(
            ["/bin/sh", "-c", script],
            env={"PATH": os.environ["PATH"]} | given | more,
            capture_output=True,
            text=True,
        )
        return done.returncode, done.stderr

    def made() -> dict[str, str]:
        return {
            path.name: path.read_text() for path in (tmp_path / "run").rglob("*") if path.is_file()
        }

    assert prepare() == (0, "")
    first = made()
    assert set(first) == {
        "database_owner_password", "database_password", "redis_password", "etude_metrics_token",
        "password",
    }  # fmt: skip
    assert all(re.fullmatch("[0-9a-f]{48}", word) for word in first.values())
    assert len(set(first.values())) == 5
    assert prepare() == (0, "")
    assert made() == first
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700
    code, said = prepare(ETUDE_VALKEY_PASSWORD="new", ETUDE_POSTGRES_PASSWORD="wrong")
    assert code == 0
    assert "is not the password that the database was made with" in said
    assert made() == first | {"redis_password": "new"}
    # The volume of the password is lost, the database is there.
    (tmp_path / "run/etude/owner/database_owner_password").unlink()
    (tmp_path / "servers/postgres/PG_VERSION").touch()
    code, said = prepare()
    assert code == 1
    assert "Write it into .env as ETUDE_POSTGRES_PASSWORD" in said
    assert prepare(ETUDE_POSTGRES_PASSWORD="mine") == (0, "")
    assert made()["database_owner_password"] == "mine"


def test_servers_answer_to_other_machines_only_where_somebody_says_so_and_by_tls() -> None:
    services = yaml.safe_load(JOIN)["services"]
    published = {name: each["ports"] for name, each in services.items() if "ports" in each}
    assert set(published) == {"postgres", "valkey"}
    for ports in published.values():
        assert all(port.startswith("${ETUDE_JOIN_ADDRESS:-127.0.0.1}:") for port in ports)
    assert "-c ssl=on" in services["postgres"]["command"][0]
    # The port with TLS, and not the one within.
    assert published["valkey"][0].endswith(":6380:6380")
    assert "'tls-port 6380'" in services["valkey"]["command"][0]
    # What the first file says of both still holds.
    for word in SERVICES["postgres"]["command"][1:]:
        assert word in services["postgres"]["command"][0]
    for line in SERVICES["valkey"]["command"][0].splitlines()[:3]:
        for quoted in re.findall(r"'[^']+'|\"[^\"]+\"", line):
            assert quoted in services["valkey"]["command"][0]
    # Networks are added to those of the first file; who may reach the outside is named there.
    outside = {name for name, each in services.items() if "out" in each.get("networks", [])}
    assert outside == {"gpu-worker", "cpu-trainer", "backup"}
    # Everybody who opens files has the folder that is shared.
    with_folder = {name for name, each in services.items() if "/shared" in str(each["volumes"])}
    assert with_folder == OURS


def test_a_machine_that_joins_is_held_to_the_same_bounds() -> None:
    for name, service in yaml.safe_load(WORKER)["services"].items():
        here = SERVICES[name]
        for bound in ("read_only", "cap_drop", "security_opt", "pids_limit", "logging", "tmpfs"):
            assert service[bound] == here[bound], bound
        for same in ("image", "command", "healthcheck", "stop_grace_period", "mem_limit"):
            assert service[same] == here[same], same
        assert "ports" not in service
        assert service["env_file"] == here["env_file"]


# What the Compose specification calls the parts that we use (compose-spec.io); it ignores no other.
_KEYS = {
    "services": {
        "build", "cap_add", "cap_drop", "command", "cpu_shares", "depends_on", "deploy",
        "entrypoint", "env_file", "environment", "healthcheck", "image", "init", "logging",
        "mem_limit", "network_mode", "networks", "pids_limit", "ports", "profiles", "read_only",
        "restart", "security_opt", "shm_size", "stop_grace_period", "tmpfs", "user", "uts",
        "volumes",
    },
    "networks": {"internal", "ipam", "driver_opts"},
    "volumes": set(),
}  # fmt: skip
_KEYS_WITHIN = {
    "build": {"context", "target", "args"},
    "depends_on": {"condition"},
    "deploy": {"resources"},
    "healthcheck": {"test", "interval", "timeout", "retries", "start_period"},
    "logging": {"driver", "options"},
}


@pytest.mark.parametrize("text", [TEXT, JOIN, WORKER], ids=["compose", "join", "worker"])
def test_every_key_is_one_of_compose(text: str) -> None:
    found = yaml.safe_load(text)
    assert {key for key in found if not key.startswith("x-")} <= {"name", *_KEYS}
    for part, known in _KEYS.items():
        for name, each in found.get(part, {}).items():
            assert set(each or ()) <= known, name
            for key, within in _KEYS_WITHIN.items():
                inner = (each or {}).get(key, {})
                rows = inner.values() if key == "depends_on" else [inner]
                assert all(set(row) <= within for row in rows), (name, key)


@pytest.mark.parametrize("profiles", ["cpu", "gpu,https,monitoring", ""])
@pytest.mark.parametrize(
    "files", ["docker-compose.yml:deploy/compose.join.yml", "deploy/compose.worker.yml"]
)
def test_compose_itself_reads_it(profiles: str, files: str, tmp_path: Path) -> None:
    is_here = shutil.which("docker") is not None and (
        subprocess.run(["docker", "compose", "version"], capture_output=True).returncode == 0
    )
    if not is_here:
        pytest.skip("there is no docker compose here")
    (tmp_path / "env").write_text(EXAMPLE.replace("#ETUDE_", "ETUDE_"))
    files = files if profiles else files.partition(":")[0]
    read = subprocess.run(
        ["docker", "compose", "--env-file", str(tmp_path / "env"), "config", "--quiet"],
        cwd=ROOT,
        env=os.environ | {"COMPOSE_PROFILES": profiles, "COMPOSE_FILE": files},
        capture_output=True,
        text=True,
    )
    assert (read.returncode, read.stderr) == (0, "")
