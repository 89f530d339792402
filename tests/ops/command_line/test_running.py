"""With a real `etude up`: found by its data directory, and missed when it is gone."""

import signal
import stat
from pathlib import Path

from app.ops import own_access
from tests.up import Etude


def test_the_etude_of_this_data_directory_is_found(server_dir: Path) -> None:
    etude = Etude(server_dir / "a house that is asked")
    etude.start()
    try:
        listed = etude.command("job", "list", "--json")
        assert (listed.returncode, listed.stdout, listed.stderr) == (0, "[]\n", "")
        kept = etude.data_dir / "secrets" / own_access.TOKEN_FILE
        assert stat.S_IMODE(kept.stat().st_mode) == 0o600
        unknown = etude.command("ask", "nobody", "Hm?")
        assert unknown.returncode == 1
        assert unknown.stderr == "etude: There is no model “nobody” here, nor any other yet.\n"
    finally:
        etude.end(signal.SIGTERM)
    gone = etude.command("ask", "nobody", "Hm?")
    assert gone.returncode == 1
    assert gone.stderr.startswith("etude: Etude is not running here")
    assert len(gone.stderr.splitlines()) == 1
