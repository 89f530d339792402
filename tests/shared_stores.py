"""Storages that machines share: a folder, and a bucket of a real server that speaks S3 (moto)."""

import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.error import URLError

from tests import patience

KEY, SECRET, REGION = "etude", "a key of the tests", "us-east-1"
SERVER = "from moto.server import main; import sys; main(sys.argv[1:])"


@contextmanager
def s3_server(host: str = "127.0.0.1") -> Iterator[str]:
    """A server with an empty bucket `shared`; gives its address."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", SERVER, "-H", host, "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    address = f"http://{host}:{port}"
    try:
        deadline = time.monotonic() + patience.seconds(60)
        while not _answers(address):
            assert process.poll() is None and time.monotonic() < deadline, "moto did not start"
            time.sleep(0.1)
        make_bucket(address)
        yield address
    finally:
        process.kill()
        process.wait()


def make_bucket(address: str) -> None:
    urllib.request.urlopen(urllib.request.Request(f"{address}/shared", method="PUT")).close()


def bucket_settings(address: str, prefix: str = "site") -> dict[str, str]:
    """What the environment says of a bucket."""
    return {
        "ETUDE_STORAGE": f"s3://shared/{prefix}",
        "ETUDE_S3_ENDPOINT": address,
        "ETUDE_S3_REGION": REGION,
        "ETUDE_S3_KEY": KEY,
        "ETUDE_S3_SECRET": SECRET,
    }


def _answers(address: str) -> bool:
    try:
        urllib.request.urlopen(address, timeout=5).close()
    except URLError:
        return False
    return True
