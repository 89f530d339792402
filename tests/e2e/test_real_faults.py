"""What breaks under the starter model while it answers: its files, the disk, its processes."""

import os
import shutil
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest
from openai import OpenAI

from app.core import storage
from app.ops.embedded.postgres import Postgres
from app.ops.embedded.valkey import Valkey
from tests import factories, patience
from tests.e2e.real_house import RealHouse, ask, real_house, words
from tests.small_disk import fill, small_disk

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def house(
    postgres: Postgres, valkey: Valkey, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RealHouse]:
    with real_house(postgres, valkey, tmp_path_factory.mktemp("faults")) as made:
        yield made


@pytest.fixture(scope="module")
def api(house: RealHouse) -> Iterator[OpenAI]:
    with house.client() as client:
        yield client


def test_files_that_somebody_replaced_are_not_used(house: RealHouse, api: OpenAI) -> None:
    before = words(ask(api, house))
    models = house.data_dir / "models"
    shutil.copytree(models / "starter", models / "copy")
    copy = factories.make_base_model(house.db, name="house/copy", folder="copy")
    for name in ("manifest_sha256", "config", "size_bytes"):
        setattr(copy, name, getattr(house.model, name))
    house.db.commit()
    assert words(ask(api, house, model=copy.name)) == before
    with (models / "copy" / "model.safetensors").open("r+b") as file:
        file.seek(-1000, os.SEEK_END)
        file.write(bytes(1000))
    house.fresh_child()
    with pytest.raises(openai.InternalServerError) as refused:
        ask(api, house, model=copy.name)
    assert refused.value.code == "model_not_usable"
    assert str(house.data_dir) not in str(refused.value)
    assert words(ask(api, house)) == before
    house.db.delete(copy)
    house.db.commit()
    shutil.rmtree(models / "copy")


def test_an_adapters_file_that_somebody_replaced_is_not_used(house: RealHouse, api: OpenAI) -> None:
    adapter = house.add_adapter()
    (storage.path(str(adapter.storage_key)) / "adapter_model.safetensors").write_bytes(b"other")
    with pytest.raises(openai.InternalServerError) as refused:
        ask(api, house, model=adapter.public_name)
    assert refused.value.code == "model_not_usable"
    assert words(ask(api, house, model=house.adapter.public_name))


def test_the_gguf_files_may_be_deleted_at_any_time(house: RealHouse, api: OpenAI) -> None:
    before = words(ask(api, house)), words(ask(api, house, model=house.adapter.public_name))
    shutil.rmtree(house.gguf_dir)
    assert words(ask(api, house)) == before[0]
    assert words(ask(api, house, model=house.adapter.public_name)) == before[1]
    another = house.add_adapter()
    assert words(ask(api, house, model=another.public_name)) == before[1]
    shutil.rmtree(house.gguf_dir)
    house.fresh_child()
    assert words(ask(api, house)) == before[0]
    assert words(ask(api, house, model=house.adapter.public_name)) == before[1]


def test_a_full_disk_is_said_and_answers_come_once_there_is_room(
    house: RealHouse, api: OpenAI
) -> None:
    before = words(ask(api, house))
    house.answerer.end()
    kept = house.gguf_dir.with_name("kept")
    house.gguf_dir.rename(kept)
    with small_disk(house.gguf_dir, "600m") as disk:
        ballast = fill(disk, leave=50 * 1024**2)
        house.answerer.start()
        with pytest.raises(openai.InternalServerError) as refused:
            ask(api, house)
        assert refused.value.code == "model_not_usable"
        assert "space" in str(refused.value)
        assert [path.name for path in disk.iterdir()] == [ballast.name]
        ballast.unlink()
        for path in kept.iterdir():  # made in another place, so that the test takes no minute
            shutil.copyfile(path, disk / path.name)
        deadline = time.monotonic() + patience.seconds(60)
        while True:
            try:
                assert words(ask(api, house)) == before
                break
            except openai.InternalServerError:
                assert time.monotonic() < deadline, "it is refused although there is room"
                time.sleep(1)
        house.answerer.end()
    house.gguf_dir.rmdir()
    kept.rename(house.gguf_dir)
    house.answerer.start()


def test_a_converter_that_is_killed_leaves_nothing(house: RealHouse, api: OpenAI) -> None:
    adapter = house.add_adapter()
    before = words(ask(api, house))
    for path in house.gguf_dir.glob("adapter-*"):
        path.unlink()

    def converter() -> list[int]:
        return house.below("worker.inference.convert")

    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(ask, api, house, model=adapter.public_name)
        house.wait_for(converter)
        os.kill(converter()[0], signal.SIGKILL)
        with pytest.raises(openai.InternalServerError):
            asking.result()
    assert not list(house.gguf_dir.glob("adapter-*"))
    assert words(ask(api, house)) == before
