"""No library below the version in which somebody has shown how to break in (floors.toml)."""

import re
import tomllib
from importlib import metadata
from pathlib import Path

from packaging.version import Version

FLOORS = tomllib.loads(Path(__file__).with_name("floors.toml").read_text())
LOCK = (Path(__file__).parents[2] / "requirements.lock").read_text()
NOT_BEFORE = {name: Version(floor["version"]) for name, floor in FLOORS["floors"].items()}


def locked(text: str) -> list[tuple[str, Version]]:
    """Return what a lock pins; one name may have several versions, by platform."""
    pins = re.findall(r"^([a-z0-9-]+)==([^\s;\\]+)", text, re.MULTILINE)
    return [(name, Version(version)) for name, version in pins]


def too_old(pins: list[tuple[str, Version]]) -> list[str]:
    return [
        f"{name} {version}: {FLOORS['floors'][name]['why']}"
        for name, version in pins
        if name in NOT_BEFORE and version < NOT_BEFORE[name]
    ]


def test_the_lock_stands_above_the_floors() -> None:
    pins = locked(LOCK)
    assert len(pins) > 80
    assert too_old(pins) == []


def test_what_is_installed_stands_above_the_floors() -> None:
    installed = [
        (re.sub(r"[-_.]+", "-", each.name).lower(), Version(each.version))
        for each in metadata.distributions()
        if each.name
    ]
    assert {"torch", "starlette", "jinja2"} <= {name for name, _ in installed}
    assert too_old(installed) == []
    assert not {name for name, _ in installed} & FLOORS["absent"].keys()


def test_what_must_not_come_along_is_not_in_the_lock() -> None:
    assert not {name for name, _ in locked(LOCK)} & FLOORS["absent"].keys()


def test_an_old_version_would_be_found() -> None:
    old = locked("torch==2.5.1\n    # via peft\nstarlette==0.49.1 ; python_version < '3.12'\n")
    assert [each.partition(":")[0] for each in too_old(old)] == ["torch 2.5.1"]
