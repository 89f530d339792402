"""A folder is whole and as it was written, or it is refused."""

import json
from pathlib import Path

import pytest

from app.training.manifests import (
    NAME,
    new_folder,
    read_manifest,
    verify_manifest,
    write_manifest,
)


def make(folder: Path) -> str:
    (folder / "sub").mkdir(parents=True)
    (folder / "a.txt").write_text("one")
    (folder / "sub" / "b.txt").write_text("two")
    return write_manifest(folder, step=3)


def test_a_whole_folder_is_taken(tmp_path: Path) -> None:
    digest = make(tmp_path / "x")
    assert verify_manifest(tmp_path / "x") == digest
    body = json.loads((tmp_path / "x" / NAME).read_text())
    assert body["step"] == 3
    assert body["files"]["a.txt"] == {
        "size_bytes": 3,
        "sha256": "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed",
    }
    assert set(body["files"]) == {"a.txt", "sub/b.txt"}


def test_changed_missing_added_and_linked_files_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "x"
    make(folder)
    (folder / "a.txt").write_text("onE")
    with pytest.raises(ValueError, match="content"):
        verify_manifest(folder)
    (folder / "a.txt").write_text("longer")
    with pytest.raises(ValueError, match="size"):
        verify_manifest(folder)
    (folder / "a.txt").unlink()
    with pytest.raises(ValueError, match=r"a\.txt"):
        verify_manifest(folder)
    (folder / "a.txt").symlink_to(folder / "sub" / "b.txt")
    with pytest.raises(ValueError, match="size"):
        verify_manifest(folder)
    (folder / "a.txt").unlink()
    (folder / "a.txt").write_text("one")
    (folder / "c.txt").write_text("three")
    with pytest.raises(ValueError, match=r"c\.txt"):
        verify_manifest(folder)


@pytest.mark.parametrize("body", ["", "[]", '{"files": {"../x": {}}}', '{"files": {"/x": {}}}'])
def test_a_manifest_that_makes_no_sense_is_refused(tmp_path: Path, body: str) -> None:
    (tmp_path / NAME).write_text(body)
    with pytest.raises(ValueError, match="MANIFEST"):
        read_manifest(tmp_path)


def test_an_unfinished_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="never finished"):
        verify_manifest(tmp_path)


def test_a_new_folder_is_whole_or_not_there(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), new_folder(tmp_path / "x") as folder:
        (folder / "a").write_text("half")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    for text in ("first", "second"):
        with new_folder(tmp_path / "x") as folder:
            (folder / "a").write_text(text)
            assert not (tmp_path / "x").exists() or text == "second"
    assert (tmp_path / "x" / "a").read_text() == "second"
    assert [p.name for p in tmp_path.iterdir()] == ["x"]
