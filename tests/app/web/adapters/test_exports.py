"""Taking an adapter along: the card, who may do what, the download, and one screen a program."""

import json
import re
from datetime import UTC, datetime, timedelta
from html import unescape
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session
from starlette.testclient import TestClient

from app.adapters import export_card, programs, registry
from app.core import leases, storage
from app.core.models import (
    Adapter,
    AdapterKind,
    Export,
    ExportForm,
    ExportStatus,
    Quantization,
    Release,
    Role,
    User,
)
from app.core.sentences import size
from tests.app.web.pages import sign_in
from tests.factories import (
    make_adapter,
    make_department,
    make_lookup,
    make_user,
    make_zipped_adapter,
)

# What is not ready has none of these.
NOTHING: dict[str, Any] = dict.fromkeys(("storage_key", "sha256", "size_bytes", "kept_until"))


@pytest.fixture
def user(db: Session, broker: str) -> User:
    return make_user(db)


@pytest.fixture
def adapter(db: Session, user: User) -> Adapter:
    made = make_adapter(db, user=user, name="Ward questions")
    made.base_model.num_parameters = 135_000_000
    db.commit()
    return made


def ready(db: Session, adapter: Adapter, content: bytes = b"a zip", **changes: Any) -> Export:
    """An export as a worker leaves it."""
    stored = storage.put("exports", [content])
    values: dict[str, Any] = {
        **{"form": ExportForm.MERGED, "quantization": Quantization.BF16},
        **{"status": ExportStatus.READY, "storage_key": stored.key, "sha256": stored.sha256},
        **{"size_bytes": stored.size_bytes, "filename": "ward-questions-merged.zip"},
        "kept_until": datetime.now(UTC) + timedelta(days=7),
        "agreement": [
            {
                **{"program": "transformers 5.1", "quantization": "bf16", "num_rows": 20},
                **{"num_positions": 412, "same_share": 0.9951, "loss": 2.7049},
                **{"reference_loss": 2.703, "bound": None, "rows": "test rows"},
                "endings": {
                    **{"num_asked": 20, "num_ended": 17, "reference_ended": 18},
                    "max_tokens": 96,
                },
            }
        ],
        "notes": [],
    }
    row = Export(
        department_id=adapter.department_id,
        owner_id=adapter.owner_id,
        adapter_id=adapter.id,
        **values | changes,
    )
    db.add(row)
    db.commit()
    return row


def card(browser: TestClient, adapter: Adapter) -> str:
    page = browser.get(f"/adapters/{adapter.id}")
    assert page.status_code == 200
    found = re.search(r'<section class="sheet" id="take-along".*?</section>', page.text, re.S)
    assert found is not None
    return unescape(re.sub(r"\s+", " ", found[0]))


def test_the_forms_stand_with_their_sizes_before_anything_is_made(
    client: TestClient, db: Session, user: User, adapter: Adapter
) -> None:
    browser = sign_in(client, db, user)
    shown = card(browser, adapter)
    for name in ("Adapter", "Merged model", "GGUF file", "Ollama folder", "vLLM folder"):
        assert f">{name}<" in shown
    assert f"about {size(2 * 135_000_000 + 8 * 1024**2)}" in shown
    assert "hx-trigger" not in shown
    assert shown.count("Make it") == 2 * 6  # each with a name for those who hear it
    assert shown.index("For your own computer") < shown.index(">GGUF file<")
    assert shown.index(">Ollama folder<") < shown.index("For servers") < shown.index(">Adapter<")
    # What comes in several sizes has one button, and the usual size stands first.
    offered = re.findall(r'<option value="([a-z0-9_]+)"', shown)
    assert offered == ["q8_0", "q4_k_m", "f16"] * 2


def test_one_is_asked_for_followed_cancelled_and_asked_for_again(
    client: TestClient, db: Session, user: User, adapter: Adapter
) -> None:
    browser = sign_in(client, db, user)
    asked = {"form": "ollama", "quantization": "q4_k_m"}
    answer = browser.post(f"/adapters/{adapter.id}/exports", data=asked, follow_redirects=False)
    assert answer.headers["location"] == f"/adapters/{adapter.id}#take-along"
    row = db.scalars(select(Export)).one()
    assert (row.form, row.quantization) == (ExportForm.OLLAMA, Quantization.Q4_K_M)
    lease = leases.claim(db, leases.EXPORTS, "cpu-0@here")
    assert lease is not None
    leases.renew(db, lease, {"doing": "opening it with llama.cpp", "share": 0.6})
    db.commit()
    shown = card(browser, adapter)
    assert re.findall(r'<option value="([a-z0-9_]+)"', shown)[-2:] == ["q8_0", "f16"]
    assert 'hx-trigger="every 2s"' in shown
    assert "Opening it with llama.cpp." in shown
    assert 'value="0.6"' in shown
    browser.post(f"/adapters/{adapter.id}/exports/{row.id}/cancel")
    db.refresh(row)
    assert (row.status, row.lease_until) == (ExportStatus.CANCELLED, None)
    with pytest.raises(leases.LeaseLost):
        leases.renew(db, lease)
    db.rollback()
    browser.post(f"/adapters/{adapter.id}/exports", data=asked)
    assert len(db.scalars(select(Export)).all()) == 2


def test_what_is_ready_stands_beside_its_agreement_and_is_handed_over(
    client: TestClient, db: Session, user: User, adapter: Adapter
) -> None:
    row = ready(db, adapter)
    browser = sign_in(client, db, user)
    shown = card(browser, adapter)
    assert "99.5 % of the likeliest words are the same, loss 2.705 beside 2.703" in shown
    assert "over 412 words of 20 test rows" in shown
    assert "17 of 20 answers come to an end by themselves within 96 words" in shown
    assert "as it was trained, 18 do" in shown
    assert str(row.sha256) in shown
    address = f"/adapters/{adapter.id}/exports/{row.id}/download"
    assert address in shown
    download = browser.get(address)
    assert download.content == b"a zip"
    assert "ward-questions-merged.zip" in download.headers["content-disposition"]
    assert download.headers["cache-control"] == "private, no-store"


def test_every_download_of_the_page_was_opened_first(
    client: TestClient, db: Session, user: User
) -> None:
    adapter = make_zipped_adapter(db, user)
    row = ready(db, adapter)
    browser = sign_in(client, db, user)
    html = browser.get(f"/adapters/{adapter.id}").text
    found = re.findall(r'href="([^"]*/download[^"]*)"', html)
    assert found == [f"/adapters/{adapter.id}/exports/{row.id}/download"]
    assert 'href="#take-along"' in html
    assert browser.get(f"/adapters/{adapter.id}/download").status_code == 404
    adapter.release = Release.WITHDRAWN
    db.commit()
    html = browser.get(f"/adapters/{adapter.id}").text
    assert "/download" not in html
    assert 'href="#take-along"' not in html


def test_what_falls_short_says_so_and_is_not_handed_over(
    client: TestClient, db: Session, user: User, adapter: Adapter
) -> None:
    said = "90.0 % of its likeliest words are the adapter's own"
    row = ready(db, adapter, status=ExportStatus.FAILED, reason=said, **NOTHING)
    browser = sign_in(client, db, user)
    shown = card(browser, adapter)
    assert said in shown
    assert "Try again" in shown
    assert "/download" not in shown
    address = f"/adapters/{adapter.id}/exports/{row.id}/download"
    assert browser.get(address).status_code == 409


def test_a_loss_that_is_no_number_does_not_break_the_page(
    client: TestClient, db: Session, user: User, adapter: Adapter
) -> None:
    row = ready(db, adapter, status=ExportStatus.FAILED, reason="Its numbers.", **NOTHING)
    row.agreement = [row.agreement[0] | {"loss": None}]
    db.commit()
    shown = card(sign_in(client, db, user), adapter)
    assert "loss that is no number beside 2.703" in shown


def test_who_may_only_look_may_take_what_is_ready_and_no_more(
    client: TestClient, db: Session, user: User, adapter: Adapter
) -> None:
    row = ready(db, adapter)
    browser = sign_in(client, db, make_user(db, role=Role.VIEWER))
    assert "Make it" not in card(browser, adapter)
    refused = browser.post(f"/adapters/{adapter.id}/exports", data={"form": "adapter"})
    assert refused.status_code == 403
    address = f"/adapters/{adapter.id}/exports/{row.id}/download"
    assert browser.get(address).status_code == 200


def test_another_members_is_not_cancelled_and_a_strangers_is_not_seen(
    client: TestClient, db: Session, user: User, adapter: Adapter
) -> None:
    row = ready(db, adapter, status=ExportStatus.WAITING, **NOTHING)
    address = f"/adapters/{adapter.id}/exports/{row.id}"
    browser = sign_in(client, db, make_user(db))
    assert browser.post(f"{address}/cancel").status_code == 403
    elsewhere = make_user(db, role=Role.ADMIN, department=make_department(db))
    browser = sign_in(client, db, elsewhere)
    for path in (f"{address}/download", f"/adapters/{adapter.id}/use"):
        assert browser.get(path).status_code == 404
    assert browser.post(f"{address}/cancel").status_code == 404


def test_bad_wishes_get_a_sentence(
    client: TestClient, db: Session, user: User, adapter: Adapter
) -> None:
    browser = sign_in(client, db, user)
    address = f"/adapters/{adapter.id}/exports"
    for sent, said in (
        ({}, "Choose what to take it along as"),
        ({"form": "merged", "quantization": "q8_0"}, "Merged model can be had as bf16"),
        ({"form": "gguf-merged", "quantization": "q2"}, "Choose one of the numbers of bits"),
    ):
        answer = browser.post(address, data=sent)
        assert (answer.status_code, said in answer.text) == (422, True), sent
    adapter.release = Release.WITHDRAWN
    db.commit()
    answer = browser.post(address, data={"form": "merged"})
    assert (answer.status_code, "was withdrawn" in answer.text) == (409, True)
    lookup = make_lookup(db, user=user)
    assert (
        browser.post(f"/adapters/{lookup.id}/exports", data={"form": "merged"}).status_code == 409
    )
    assert browser.get(f"/adapters/{lookup.id}/use").status_code == 404
    assert lookup.kind is AdapterKind.LOOKUP


@pytest.mark.parametrize(
    "key",
    ["", "browser", "python", "llama.cpp", "ollama", "lm-studio", "open-webui", "vllm"],
)
def test_each_program_has_a_screen_with_commands(
    client: TestClient, db: Session, user: User, adapter: Adapter, key: str
) -> None:
    row = ready(db, adapter)
    browser = sign_in(client, db, user)
    page = browser.get(f"/adapters/{adapter.id}/use", params={"program": key})
    assert page.status_code == 200
    text = unescape(page.text)
    chosen = next(p for p in programs.of(adapter) if p.key == (key or "browser"))
    for step in chosen.steps:
        assert step.command in text
    for trap in chosen.traps:
        assert trap in text
    assert (str(row.filename) in text) == (key == "python")
    # What was never run by anything here says so.
    was_run = key not in ("ollama", "lm-studio", "open-webui")
    assert ("its documentation has them" in text) != was_run


def test_vllm_is_given_no_rank_where_the_adapter_is_merged(db: Session, adapter: Adapter) -> None:
    def said() -> str:
        (vllm,) = (program for program in programs.of(adapter) if program.key == "vllm")
        return "\n".join([*(step.command for step in vllm.steps), *vllm.traps])

    assert said().count("--max-lora-rank") == 2
    config = registry.folder(adapter) / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"use_dora": True}))
    assert "--max-lora-rank" not in said()
    assert "learned" not in said()


def test_what_four_bits_cost_is_said_where_any_were_left(db: Session, adapter: Adapter) -> None:
    row = ready(db, adapter)
    (registry.folder(adapter) / "README.md").write_text("# Ward\n\n## How well it did\n\nWell.\n")

    def said(method: str) -> str:
        assert adapter.job is not None
        adapter.job.config = adapter.job.config | {"method": method}
        return export_card.write(adapter, row, row.agreement, row.notes, "3 of 4 right.")

    assert "Of this adapter it was not measured" in said("qlora")
    assert "29 November 2026" in said("qlora")
    assert "4 bits; leaving" not in said("lora")
    assert "3 of 4 right." in said("lora")


def test_commands_name_the_file_that_there_is(
    client: TestClient, db: Session, user: User, adapter: Adapter
) -> None:
    browser = sign_in(client, db, user)

    def named() -> set[str]:
        pages = [
            browser.get(f"/adapters/{adapter.id}/use", params={"program": key}).text
            for key in ("llama.cpp", "lm-studio")
        ]
        return {each for page in pages for each in re.findall(r"questions-(q\w+)\.gguf", page)}

    assert named() == {"q8_0"}
    four: dict[str, Any] = {"form": ExportForm.GGUF_MERGED, "quantization": Quantization.Q4_K_M}
    ready(db, adapter, **four)
    assert named() == {"q4_k_m"}
    ready(db, adapter, **four | {"quantization": Quantization.Q8_0})
    assert named() == {"q8_0"}


def test_no_command_reaches_a_hub_and_python_compiles(db: Session, adapter: Adapter) -> None:
    for program in programs.of(adapter):
        for step in program.steps:
            assert not re.search(r"huggingface\.co|hf\.co|ollama pull|docker pull", step.command)
            if step.is_python:
                compile(step.command, program.name, "exec")
        if program.key in ("vllm", "open-webui"):
            assert any("HF_HUB_OFFLINE=1" in step.command for step in program.steps)
