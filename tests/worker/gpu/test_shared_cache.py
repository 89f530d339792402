"""What trainers share is there before one starts, made by a child that sees weights alone."""

from pathlib import Path

from app.training.manifests import verify_manifest
from tests.worker.trainer.conftest import make_job, tiny_model  # noqa: F401 - a fixture
from worker.gpu import shared_cache
from worker.trainer import packed_copy


def test_a_model_is_packed_once_and_again_where_the_copy_is_damaged(
    tmp_path: Path,
    tiny_model: Path,  # noqa: F811
) -> None:
    cache = tmp_path / "cache"
    spec = make_job(tmp_path, tiny_model).model_copy(update={"cache_dir": str(cache)})
    shared_cache.fill(spec, is_sharded=False)
    hashed = [path.name for path in cache.iterdir()]
    assert hashed == [f"verified-{spec.base_model_manifest_sha256[:32]}.json"]  # too small to pack
    packed = packed_copy.folder(
        cache, spec.base_model_manifest_sha256, spec.device, is_sharded=False
    )
    shared_cache.fill(spec, is_sharded=False, worth_bytes=1)
    verify_manifest(packed)
    weights = packed / "model.safetensors"
    made = weights.stat().st_ino
    shared_cache.fill(spec, is_sharded=False, worth_bytes=1)
    assert weights.stat().st_ino == made
    bent = bytearray(weights.read_bytes())
    bent[-1] ^= 1
    weights.write_bytes(bent)
    shared_cache.fill(spec, is_sharded=False, worth_bytes=1)
    verify_manifest(packed)
    # Two notes and the copy: nothing of the work is left, nor of what was damaged.
    kept = {path.name.partition("-")[0] for path in cache.iterdir()}
    assert kept == {"verified", packed.name.partition("-")[0]}
    assert len([path for path in cache.iterdir() if path.is_dir()]) == 1


def test_files_that_changed_are_left_to_the_trainer_to_refuse(
    tmp_path: Path,
    tiny_model: Path,  # noqa: F811
) -> None:
    cache = tmp_path / "cache"
    spec = make_job(tmp_path, tiny_model).model_copy(
        update={"cache_dir": str(cache), "base_model_manifest_sha256": "0" * 64}
    )
    shared_cache.fill(spec, is_sharded=False, worth_bytes=1)
    assert not list(cache.glob("nf4-*"))
