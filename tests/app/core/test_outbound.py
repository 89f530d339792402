"""Each connection beyond this machine is seen, whoever makes it, and told from what is allowed."""

import json
import os
import subprocess
import sys

# An audit hook cannot be taken back, so each case has a process of its own. 192.0.2.1 is an address
# that nobody has; what counts is the trial.
BEGIN = """
import asyncio, json, os, socket
from contextlib import suppress
from dataclasses import asdict
from app.core import outbound
outbound.watch()

def try_to(host, port=9, family=socket.AF_INET):
    with socket.socket(family) as sock, suppress(OSError):
        sock.setblocking(False)
        sock.connect((host, port))
"""
END = "\nprint(json.dumps(asdict(outbound.read())))"


def counted(program: str, **settings: str) -> dict[str, dict[str, int]]:
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + program + END],
        capture_output=True,
        text=True,
        env=os.environ | settings,
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, dict[str, int]] = json.loads(done.stdout)
    return result


def test_what_nobody_has_named_is_unexpected() -> None:
    found = counted("try_to('192.0.2.1', 443); try_to('192.0.2.1', 443); try_to('192.0.2.2')")
    assert found == {"allowed": {}, "unexpected": {"192.0.2.1:443": 2, "192.0.2.2:9": 1}}


def test_this_machine_does_not_count() -> None:
    found = counted(
        "try_to('127.0.0.1'); try_to('0.0.0.0')\n"
        "try_to('::1', family=socket.AF_INET6)\n"
        "socket.getaddrinfo('localhost', 80); socket.getaddrinfo('127.0.0.1', 80)\n"
        "with suppress(OSError): socket.getaddrinfo(socket.gethostname(), 80)\n"
        "with socket.socket(socket.AF_UNIX) as sock, suppress(OSError): sock.connect('/nowhere')"
    )
    assert found == {"allowed": {}, "unexpected": {}}


def test_a_name_that_is_looked_up_counts_where_there_is_no_way_out_too() -> None:
    found = counted("with suppress(OSError): socket.getaddrinfo('telemetry.invalid', 443)")
    assert found == {"allowed": {}, "unexpected": {"telemetry.invalid": 1}}


def test_packets_without_a_connection_count() -> None:
    found = counted(
        "with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock, suppress(OSError):\n"
        "    sock.sendto(b'x', ('192.0.2.1', 8125))"
    )
    assert found["unexpected"] == {"192.0.2.1:8125": 1}


def test_what_a_setting_allows_counts_for_it() -> None:
    found = counted(
        "with outbound.towards('webhooks', 'hooks.invalid'):\n"
        "    with suppress(OSError): socket.getaddrinfo('hooks.invalid', 443)\n"
        "    try_to('192.0.2.1', 443)\n"
        "try_to('192.0.2.1', 443)"
    )
    assert found == {"allowed": {"webhooks": 1}, "unexpected": {"192.0.2.1:443": 1}}


def test_servers_that_settings_name_are_known_without_being_named() -> None:
    found = counted(
        "try_to('192.0.2.7', 6379); try_to('192.0.2.8', 8000); try_to('192.0.2.7', 22)",
        REDIS_URL="redis://:secret@192.0.2.7:6379/0",
        ETUDE_INFERENCE_URL="http://192.0.2.8:8000",
    )
    assert found["allowed"] == {"broker": 1, "inference": 1}
    assert found["unexpected"] == {"192.0.2.7:22": 1}


def test_an_event_loop_and_its_threads_are_seen() -> None:
    found = counted(
        "async def go():\n"
        "    async def one(purpose):\n"
        "        with outbound.towards(purpose, '192.0.2.1'), suppress(OSError, TimeoutError):\n"
        "            async with asyncio.timeout(0.2): \n"
        "                await asyncio.open_connection('192.0.2.1', 9)\n"
        "    await asyncio.gather(one('answering'), one('inference'))\n"
        "    await asyncio.to_thread(try_to, '192.0.2.1', 10)\n"
        "asyncio.run(go())"
    )
    assert found["allowed"] == {"answering": 1, "inference": 1}
    assert found["unexpected"] == {"192.0.2.1:10": 1}


def test_what_is_forked_counts_on_the_same_board() -> None:
    found = counted(
        "if (pid := os.fork()) == 0:\n"
        "    try_to('192.0.2.1', 25)\n"
        "    os._exit(0)\n"
        "os.waitpid(pid, 0); try_to('192.0.2.1', 25)"
    )
    assert found["unexpected"] == {"192.0.2.1:25": 2}


def test_no_more_targets_are_told_apart_than_a_page_can_show() -> None:
    found = counted("for n in range(1, 201): try_to('192.0.2.1', n)")
    assert len(found["unexpected"]) == 51
    assert found["unexpected"]["other targets"] == 150
