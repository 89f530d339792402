"""Every example of the documentation is run as it stands, against a real Etude.

An example is a fenced block that names a language. `python` blocks of a page are one program, in
their order; `sh` blocks are given to a shell that has `etude` and `make` (which only says what it
would do), and where `docker compose` and `git` do nothing: deploy/smoke.sh runs the former for
real. `json` is sent to `/v1`, or is its error body; `ini` names settings. What the examples take
for granted stands in `etude`: the file, the model and the adapters that they name. A new example is
run without further ado.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from signal import SIGTERM
from typing import Any

import httpx2
import pytest

from app.core import settings
from app.core.models import JobStatus
from tests import factories, patience
from tests.up import STAND_IN, Etude
from tests.worker.answering import asking

pytestmark = pytest.mark.timeout(600)
ROOT = Path(__file__).parents[2]
PAGES = [
    *sorted(ROOT.glob("docs/*.md")),
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "examples/README.md")),
]
MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
_BLOCK = re.compile(r"^( *)```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
# What looks as if a person were to type it.
_TYPED = re.compile(
    r"^ *(\$ |curl |etude |make |python |echo |ETUDE_\w+=|import |from \w+ import )", re.M
)
WARD = "question,answer\n" + "".join(
    f"Where is room {number}?,Room {number} is on floor {number % 5}.\n" for number in range(40)
)


@dataclass(frozen=True)
class Example:
    page: Path
    line: int
    language: str
    text: str

    @property
    def where(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def examples_of(page: Path) -> Iterator[Example]:
    text = page.read_text(encoding="utf-8")
    for match in _BLOCK.finditer(text):
        lines = [line.removeprefix(match[1]) for line in match[3].splitlines()]
        line = text.count("\n", 0, match.start()) + 1
        yield Example(page, line, match[2], "\n".join(lines) + "\n")


EXAMPLES = [example for page in PAGES for example in examples_of(page)]


def pages_with(language: str) -> list[Path]:
    found = {example.page for example in EXAMPLES if example.language == language}
    return [page for page in PAGES if page in found]


@dataclass
class House:
    """A running Etude, and a place beside it where examples are typed."""

    etude: Etude
    folder: Path
    token: str

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.etude.port}"

    def written_for_it(self, text: str) -> str:
        """Return an example with the addresses, tokens and places that are its reader's own."""
        own = {
            "http://127.0.0.1:8000": self.address,
            "etude-…": self.token,
            "/backups": str(self.folder / "backups"),
            "/new/place": str(self.folder / "new"),
            "/old/place": str(self.folder / "old"),
        }
        for general, here in own.items():
            text = text.replace(general, here)
        return text

    def run(self, *command: str, typed: str) -> None:
        """Run an example to its end, which has to be a good one."""
        environment = self.etude.environment | {
            "ETUDE_DATA_DIR": str(self.etude.data_dir),
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            "PYTHONPATH": f"{self.folder / 'bin'}:{ROOT}",
        }
        done = subprocess.run(
            command,
            input=typed,
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=patience.seconds(240),
        )
        assert done.returncode == 0, f"{typed or command[-1]}\n{done.stdout}\n{done.stderr}"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("typed")
    data_dir = tmp_path_factory.mktemp("house") / "var"
    etude = Etude(data_dir, environment=STAND_IN | asking.STAND_IN)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ETUDE_DATA_DIR", str(data_dir))
        settings.get.cache_clear()
        etude.start()
        try:
            fill(etude)
            lay_out(folder)
            added = etude.command("user", "add", "docs@house.example", "--service")
            assert added.returncode == 0, added.stderr
            token = etude.command("token", "create", "docs@house.example").stdout.strip()
            yield House(etude, folder, token)
        finally:
            etude.end(SIGTERM)
            settings.get.cache_clear()


def fill(etude: Etude) -> None:
    """Make the model and the adapters that examples name."""
    with etude.database() as db:
        model = asking.a_model(db, data_dir=etude.data_dir)
        model.name, model.label = MODEL, "SmolLM2"
        db.commit()
        adapters: list[dict[str, Any]] = [{"name": "Ward questions"}, {"name": "Night", "id": 12}]
        for columns in adapters:
            job = factories.make_job(db, base_model=model, status=JobStatus.SUCCEEDED)
            factories.make_adapter(db, job=job, **columns)
        db.commit()


def lay_out(folder: Path) -> None:
    """Lay out what is there where a person types: files, `etude`, and programs of elsewhere."""
    (folder / "ward.csv").write_text(WARD)
    shutil.copytree(ROOT / "examples", folder / "examples")
    shutil.copyfile(ROOT / ".env.example", folder / ".env.example")
    (folder / "backups").mkdir()
    programs = {
        "etude": UP,
        "python": f'#!/bin/sh\nexec {sys.executable} "$@"\n',
        "make": f'#!/bin/sh\nexec {shutil.which("make")} -n -C {ROOT} "$@" > /dev/null\n',
        "docker": '#!/bin/sh\n[ "$1" = compose ]\n',
        "git": '#!/bin/sh\n[ "$1" = pull ]\n',
        # A machine elsewhere is this one.
        "ssh": '#!/bin/sh\nshift\nexec sh -c "$*"\n',
        # Named by an example for a site's own model; it finds nothing.
        "spacy.py": "def load(name):\n    return None\n",
    }
    for name, text in programs.items():
        path = folder / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)


# The command itself; `up` is ended as soon as it has said that it is ready.
UP = f"""#!{sys.executable}
import os, signal, socket, subprocess, sys

command = [sys.executable, "-m", "app.cli", *sys.argv[1:]]
if sys.argv[1:2] != ["up"]:
    os.execv(sys.executable, command)
with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    port = str(probe.getsockname()[1])
running = subprocess.Popen([*command, "--port", port], stdout=subprocess.PIPE, text=True)
is_ready = any("Etude is ready at" in line for line in running.stdout)
running.send_signal(signal.SIGTERM)
running.stdout.read()
sys.exit(running.wait() if is_ready else 1)
"""


def test_what_a_person_types_is_an_example() -> None:
    """Else it would be run by nobody."""
    unmarked = [one.where for one in EXAMPLES if not one.language and _TYPED.search(one.text)]
    assert unmarked == [], "name the language of these blocks"
    assert {one.language for one in EXAMPLES} <= {"", "python", "sh", "json", "ini"}


@pytest.mark.parametrize("page", pages_with("python"), ids=lambda page: page.name)
def test_the_programs_of_a_page_run(house: House, page: Path) -> None:
    parts = [one.text for one in EXAMPLES if one.page == page and one.language == "python"]
    house.run(
        sys.executable,
        "-W",
        "ignore::ResourceWarning",
        "-",
        typed=house.written_for_it("\n".join(parts)),
    )


def of(language: str) -> pytest.MarkDecorator:
    found = [one for one in EXAMPLES if one.language == language]
    return pytest.mark.parametrize("example", found, ids=[one.where for one in found])


# What takes a backup, gives it back and starts a second house.
IN_LONG = ("operations.md", "upgrading.md")


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, id=page.name, marks=[pytest.mark.long] if page.name in IN_LONG else [])
        for page in pages_with("sh")
    ],
)
def test_the_commands_of_a_page_run(house: House, page: Path) -> None:
    """One after the other, as they are read: a later one may need what an earlier one made."""
    for example in EXAMPLES:
        if (example.page, example.language) == (page, "sh"):
            # Nobody types at what asks: the script must not be read as the answers.
            house.run("sh", "-e", "-c", house.written_for_it(example.text), typed="")


@of("json")
def test_what_is_shown_as_json_is_taken_or_given(house: House, example: Example) -> None:
    shown = json.loads(example.text)
    headers = {"authorization": f"Bearer {house.token}"}
    url = f"{house.address}/v1/fine_tuning/jobs"
    with httpx2.Client(headers=headers, timeout=patience.seconds(60)) as client:
        if "error" in shown:
            given = client.post(url, json={"model": MODEL, "training_file": "file-none"}).json()
            assert given["error"].keys() == shown["error"].keys()
            for name in ("type", "param", "code"):
                assert given["error"][name] == shown["error"][name]
            return
        form = {"purpose": "fine-tune"}
        files = {"file": ("ward.csv", WARD.encode())}
        sent = client.post(f"{house.address}/v1/files", data=form, files=files).json()
        # What would refuse the job refuses this.
        shown.setdefault("x_etude", {})["dry_run"] = True
        body = {"model": MODEL, "training_file": sent["id"], **shown}
        answer = client.post(url, json=body)
        assert answer.status_code == 200, answer.text


@of("ini")
def test_what_is_shown_as_a_setting_is_one(example: Example) -> None:
    names = re.findall(r"\b([A-Z][A-Z_]+)=", example.text)
    known = {
        str(field.validation_alias or f"ETUDE_{name.upper()}")
        for name, field in settings.Settings.model_fields.items()
    }
    assert names
    assert set(names) <= known
