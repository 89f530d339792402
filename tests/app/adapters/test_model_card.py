"""The card that travels with an adapter says how to use it where no name of the site is known."""

import ast
from importlib import metadata
from typing import Any

import pytest
from sqlalchemy.orm import Session

from app.adapters import model_card
from app.core import settings
from app.core.models import User
from tests.app.jobs.test_three_parts import DONE, finished
from tests.factories import make_base_model, make_user


@pytest.fixture
def owner(db: Session) -> User:
    return make_user(db)


HASH = "a" * 64


@pytest.mark.parametrize(
    ("source", "origin", "yaml"),
    [
        (
            {"kind": "folder", "path": "/srv/ward_model"},
            r"a folder called ward\_model,",
            None,
        ),
        (
            {"kind": "folder", "path": "/srv/m", "gguf": {"name": "q8.gguf", "sha256": HASH}},
            f"the GGUF file q8.gguf, SHA-256 `{HASH}`",
            None,
        ),
        ({"kind": "upload", "id": "0" * 32}, "an uploaded folder, whose files", None),
        (
            {"kind": "starter", "gguf": {"name": "s.gguf", "sha256": HASH}},
            f"the GGUF file s.gguf, SHA-256 `{HASH}`, which Etude brings along",
            "house/tiny",
        ),
        (
            {"kind": "hub", "repo": "them/large", "revision": "v2"},
            "them/large on the Hugging Face Hub, revision v2 |",
            "them/large",
        ),
    ],
)
def test_the_card_names_no_model_that_nobody_has(
    db: Session,
    owner: User,
    source: dict[str, Any],
    origin: str,
    yaml: str | None,
) -> None:
    model = make_base_model(db)
    job = finished(db, owner)
    model.source = source
    job.base_model = model
    card = model_card.write(job, DONE.model_copy(update={"end_token_ids": [2, 5]}))
    assert f"It was\nmade with Etude {metadata.version('etude')}, on" in card
    assert f"| Which came from | {origin}" in card
    assert "| Tokens that end an answer | 2, 5 |" in card
    code = card.split("```")[1].removeprefix("python\n")
    found = {
        node.targets[0].id: node.value.value
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and isinstance(node.value, ast.Constant)
    }
    assert found["base"] == "starting-model"  # a folder: no name that would be looked up elsewhere
    assert code.index('os.environ["HF_HUB_OFFLINE"] = "1"') < code.index("import PeftModel")
    assert str(settings.get().data_dir) not in card
    assert "eos_token_id=[2, 5]" in code
    head = card.split("---")[1]
    assert (f'base_model: "{yaml}"' in head) if yaml else ("base_model" not in head)
