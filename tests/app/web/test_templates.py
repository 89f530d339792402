"""How the templates are written, and the words that they get."""

from pathlib import Path

import pytest
from jinja2 import UndefinedError

from app.core.models import AskingStatus, VersionStatus
from app.datasets import statuses
from app.web.render import environment

ROOT = Path(__file__).resolve().parents[3] / "templates"
MAX_LENGTH = 120


def test_no_line_is_too_long_to_read() -> None:
    long = [
        f"{path.relative_to(ROOT)}:{number} has {len(line)} characters"
        for path in sorted(ROOT.rglob("*.html"))
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if len(line) > MAX_LENGTH
    ]
    assert not long


def test_each_status_of_data_has_its_words() -> None:
    assert list(statuses.ASKING) == list(AskingStatus)
    ended = {VersionStatus.READY, VersionStatus.FAILED}
    assert set(statuses.SENTENCES) == set(VersionStatus) - ended


@pytest.mark.parametrize("asked", ["given.gone is none", "given.gone is not none", "gone is none"])
def test_a_name_that_is_not_defined_is_an_error_beside_none_too(asked: str) -> None:
    template = environment().from_string("{{ " + asked + " }}")
    with pytest.raises(UndefinedError):
        template.render(given=object())
    assert environment().from_string("{{ given is none }}").render(given=None) == "True"
