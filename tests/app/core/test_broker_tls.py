"""A broker that other machines reach by TLS: the certificate is looked at, by all that ask it."""

import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import redis

from app.core import wakeup
from app.ops.embedded.servers import redis_client
from tests import patience


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate of this machine's, which is its own authority, and its key."""
    place = tmp_path_factory.mktemp("tls")
    certificate, key = place / "certificate.pem", place / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    try:
        subprocess.run(
            [*command, "-keyout", str(key), "-out", str(certificate)],
            check=True,
            capture_output=True,
        )
    except FileNotFoundError:
        pytest.skip("there is no openssl to make a certificate with")
    return certificate, key


@pytest.fixture
def port(broker: str, authority: tuple[Path, Path]) -> Iterator[int]:
    """Where the broker answers by TLS; the one that comes along has none of its own."""
    socket = unquote(broker.rpartition("@")[2].partition("?")[0])
    command = [sys.executable, "-m", "tests.tls_relay", *map(str, authority), socket]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as relay:
        assert relay.stdout is not None
        yield int(relay.stdout.readline())
        relay.kill()


def address(broker: str, port: int, authority: str) -> str:
    who = urlsplit(broker).netloc.rpartition("@")[0]
    return f"rediss://{who}@localhost:{port}/0?ssl_cert_reqs=required&ssl_ca_certs={authority}"


def test_with_the_authoritys_certificate_everything_reaches_it(
    broker: str, port: int, authority: tuple[Path, Path]
) -> None:
    url = address(broker, port, str(authority[0]))
    with redis_client(url, timeout_seconds=patience.seconds(5)) as client:
        assert client.ping()
    assert wakeup.ring(url, "gpu"), "kombu does not"


def test_another_authoritys_server_hears_no_password(broker: str, port: int) -> None:
    url = address(broker, port, ssl.get_default_verify_paths().openssl_cafile)
    with (
        redis_client(url, timeout_seconds=patience.seconds(5)) as client,
        pytest.raises(redis.ConnectionError, match="certificate verify failed"),
    ):
        client.ping()
    assert not wakeup.ring(url, "gpu")
