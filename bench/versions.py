"""How long a page of a long derived version takes, by the depth of its chain.

    python -m bench.versions [ROWS]

Starts a PostgreSQL of its own in a temporary folder and takes it away again. Each derived version
changes 2 % of the rows and leaves 1 % out.
"""

import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

DEPTHS = (1, 5, 25)


def spool(num_rows: int) -> Iterator[bytes]:
    answer = "The ward answers every question with patience and a cup of tea. " * 10
    for row in range(num_rows):
        said = [
            {"content": f"What is rule {row}?", "role": "user"},
            {"content": f"{row}: {answer}", "role": "assistant"},
        ]
        yield f"{rank_of(row)}\t{row + 1}\t{json.dumps(said)}\t\n".encode()


def rank_of(row: int) -> int:
    return row * 2654435761 % 2**32


def main() -> None:
    num_rows = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with tempfile.TemporaryDirectory(prefix="etude-b") as folder:
        from app.core import settings
        from app.ops.embedded.postgres import Postgres

        server = Postgres(settings.load(data_dir=Path(folder)))
        server.start()
        try:
            os.environ |= {"DATABASE_URL": server.url, "ETUDE_DATA_DIR": folder}
            measure(num_rows)
        finally:
            server.stop()


def measure(num_rows: int) -> None:
    from app.core import db, migrations, storage
    from app.core.models import Role, VersionStatus
    from app.datasets import examples, versions
    from app.datasets.parts import Drawn
    from app.people import auth

    migrations.upgrade(db.engine())
    draw = random.Random(0)
    with db.session() as session:
        user = auth.create_user(session, None, "bench@house.example", Role.MEMBER)
        version = versions.add(session, user, storage.put("uploads", [b"x"]), "bench.csv")
        version.mapping = {"columns": [{"name": "q", "role": "question"}]}
        held_out = frozenset(rank for rank in map(rank_of, range(num_rows)) if rank < 2**32 // 10)
        written = examples.write(session, version, spool(num_rows), Drawn(test=held_out))
        version.num_train, version.num_test = written.num_train, written.num_test
        version.status = VersionStatus.READY
        session.commit()
        for depth in range(1, max(DEPTHS) + 1):
            if depth in DEPTHS:
                print(
                    json.dumps({"layers": depth, **pages(session, version, num_rows)}), flush=True
                )
            started = time.perf_counter()
            indices = sorted(draw.sample(range(num_rows), num_rows * 3 // 100))
            version = derive(session, user, version, indices)
            session.commit()
            if depth == 1:
                seconds = round(time.perf_counter() - started, 1)
                print(json.dumps({"derive_seconds": seconds, "changed": len(indices)}))
    db.engine().dispose()


def derive(session: Any, user: Any, version: Any, indices: list[int]) -> Any:
    from app.datasets import changes, examples
    from app.datasets.changes import Change

    def made() -> Iterator[Change]:
        for start in range(0, len(indices), 1000):
            for old in examples.at(session, version, indices[start : start + 1000]):
                answer = {**old.messages[1], "content": f"New since version {version.number}."}
                yield Change(old.index, [old.messages[0], answer], is_removed=old.index % 3 == 0)

    return changes.derive(session, user, version, made(), "bench")


def pages(session: Any, version: Any, num_rows: int) -> dict[str, float]:
    from app.core.models import Split
    from app.datasets import examples

    draw = random.Random(1)
    took: dict[Any, list[float]] = {None: [], Split.TEST: []}
    for split, times in took.items():
        for _ in range(30):
            started = time.perf_counter()
            examples.page(session, version, split, after=draw.randrange(num_rows), limit=50)
            times.append((time.perf_counter() - started) * 1000)
            session.expire_all()
            session.refresh(version)
    started = time.perf_counter()
    num_streamed = sum(len(batch) for batch in examples.stream(session, version))
    return {
        "page_ms_median": round(statistics.median(took[None]), 1),
        "page_ms_max": round(max(took[None]), 1),
        "test_page_ms_max": round(max(took[Split.TEST]), 1),
        "stream_seconds": round(time.perf_counter() - started, 1),
        "num_examples": num_streamed,
    }


if __name__ == "__main__":
    main()
