"""Settings that come by files, and variables that are none."""

import os
from datetime import UTC, datetime
from importlib.resources import files as files_of
from pathlib import Path

import pytest

from app.core import settings

KNOWN = {
    "DATABASE_URL": "postgresql://etude_app@db/etude",
    "REDIS_URL": "redis://etude@broker:6379/0",
}


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(settings, "_SECRET_FILES", (str(tmp_path), "/nowhere"))
    for name, value in KNOWN.items():
        monkeypatch.setenv(name, value)
    return tmp_path


def test_passwords_come_by_files_into_addresses_that_have_none(files: Path) -> None:
    (files / "database_password").write_text("a/b@c d\n")
    (files / "redis_password").write_text("word")
    (files / "etude_smtp_password").write_text("post")
    chosen = settings.load()
    assert chosen.database_url == "postgresql://etude_app:a%2Fb%40c%20d@db/etude"
    assert chosen.redis_url == "redis://etude:word@broker:6379/0"
    assert chosen.smtp_password == "post"
    assert chosen.database_owner_url == ""
    for secret in ("a/b", "a%2Fb", "post"):
        assert secret not in repr(chosen).replace(chosen.database_url, "")


def test_an_address_with_a_password_keeps_it(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (files / "database_password").write_text("other")
    monkeypatch.setenv("DATABASE_URL", "postgresql://etude:own@db/etude")
    assert settings.load().database_url == "postgresql://etude:own@db/etude"
    monkeypatch.setenv("DATABASE_URL", "postgresql:///etude?host=/run/pg")
    assert settings.load().database_url == "postgresql:///etude?host=/run/pg"


def test_the_environment_wins(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (files / "etude_metrics_token").write_text("from the file")
    assert settings.load().metrics_token == "from the file"
    monkeypatch.setenv("ETUDE_METRICS_TOKEN", "from the environment")
    assert settings.load().metrics_token == "from the environment"


def test_what_is_no_setting_is_told_with_what_it_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    before = settings.unknown()
    monkeypatch.setenv("ETUDE_PRIVACY_GATES", "off")
    monkeypatch.setenv("ETUDE_SMTP_HOST", "mail.example.org")
    monkeypatch.setenv("ETUDE_WORKER_ID", "gpu-0@here")
    monkeypatch.setenv("ETUDE_QQQQQQQQ", "1")
    assert [each for each in settings.unknown() if each not in before] == [
        "ETUDE_PRIVACY_GATES is no setting of Etude; ETUDE_PRIVACY_GATE is",
        "ETUDE_QQQQQQQQ is no setting of Etude",
    ]


def test_a_time_of_day_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ETUDE_BACKUP_AT", "half past two")
    with pytest.raises(SystemExit, match=r"ETUDE_BACKUP_AT: .*this is no time of day"):
        settings.load()


def test_the_machines_zone_is_followed_when_it_is_set_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a link to another file, whose moment may be the same: they come in one package."""
    link, noon = tmp_path / "localtime", datetime(2026, 12, 1, 12, tzinfo=UTC)
    monkeypatch.setattr(settings, "_LOCAL_TIME", link)
    monkeypatch.delenv("ETUDE_TIME_ZONE", raising=False)
    monkeypatch.delenv("TZ", raising=False)
    hours = []
    for name in ("Berlin", "Tokyo", "Berlin"):
        file = tmp_path / name
        place = {"Berlin": "Europe/Berlin", "Tokyo": "Asia/Tokyo"}[name]
        if not file.exists():
            file.write_bytes(files_of("tzdata.zoneinfo").joinpath(place).read_bytes())
            os.utime(file, (1_000_000, 1_000_000))
        link.unlink(missing_ok=True)
        link.symlink_to(file)
        hours.append(noon.astimezone(settings.load().zone()).hour)
    assert hours == [13, 21, 13]


def test_a_process_may_have_a_zone_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`TZ`, in the forms that the C library knows; the setting goes before it."""
    noon = datetime(2026, 12, 1, 12, tzinfo=UTC)
    monkeypatch.delenv("ETUDE_TIME_ZONE", raising=False)
    file = tmp_path / "Tokyo"
    file.write_bytes(files_of("tzdata.zoneinfo").joinpath("Asia/Tokyo").read_bytes())
    for told, hour in (("Europe/Berlin", 13), (":Asia/Tokyo", 21), ("", 12), (f":{file}", 21)):
        monkeypatch.setenv("TZ", told)
        assert noon.astimezone(settings.load().zone()).hour == hour
    monkeypatch.setenv("ETUDE_TIME_ZONE", "Europe/Berlin")
    assert noon.astimezone(settings.load().zone()).hour == 13
