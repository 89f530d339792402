"""How fast a version is searched for people, and how long the page of a large one takes.

    python -m bench.privacy [EXAMPLES] [FINDINGS]

Starts a PostgreSQL of its own in a temporary folder and takes it away again. The examples are the
invented people of tests/app/datasets/privacy, over and over; the findings are rows alone.
"""

import json
import os
import sys
import tempfile
import time
from pathlib import Path

PEOPLE = Path(__file__).parents[1] / "tests/app/datasets/privacy/people.jsonl"


def main() -> None:
    num_examples = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    num_findings = int(sys.argv[2]) if len(sys.argv) > 2 else 1_000_000
    with tempfile.TemporaryDirectory(prefix="etude-b") as folder:
        from app.core import settings
        from app.ops.embedded.postgres import Postgres

        server = Postgres(settings.load(data_dir=Path(folder)))
        server.start()
        try:
            os.environ |= {"DATABASE_URL": server.url, "ETUDE_DATA_DIR": folder}
            print(json.dumps(measure(num_examples, num_findings)))
        finally:
            server.stop()


def measure(num_examples: int, num_findings: int) -> dict[str, float | int]:
    from sqlalchemy import text

    from app.core import db, migrations, storage
    from app.core.models import Role, VersionStatus
    from app.datasets import examples, versions
    from app.datasets.parts import Drawn
    from app.datasets.privacy import reviews
    from app.datasets.privacy.findings import Kind
    from app.people import auth
    from worker.cpu import privacy

    migrations.upgrade(db.engine())
    people = [json.loads(line)["turns"] for line in PEOPLE.open(encoding="utf-8")]
    with db.session() as session:
        user = auth.create_user(session, None, "bench@house.example", Role.MEMBER)
        version = versions.add(session, user, storage.put("uploads", [b"x"]), "bench.csv")
        version.mapping = {"columns": [{"name": "q", "role": "question"}]}
        said = [
            json.dumps([{"role": "user", "content": turn} for turn in turns]) for turns in people
        ]
        lines = (f"{n}\t{n + 1}\t{said[n % len(said)]}\t\n".encode() for n in range(num_examples))
        written = examples.write(session, version, lines, Drawn())
        version.num_train = written.num_train
        version.status = VersionStatus.READY
        reviews.begin(session, version.id)
        session.commit()
        started = time.perf_counter()
        assert privacy.review_next("bench")
        seconds = time.perf_counter() - started
        session.expire_all()
        review = reviews.of(session, version.id)
        assert review is not None
        assert review.found, review.reason
        found = sum(review.found.values())
        session.execute(
            text(
                "INSERT INTO privacy_finding "
                "SELECT :version, 1000000 + n / 3, n % 3, 0, 5, 'name', md5((n / 7)::text) "
                "FROM generate_series(1, :number) AS n"
            ),
            {"version": version.id, "number": num_findings},
        )
        session.commit()
        started = time.perf_counter()
        reviews.values(session, version, Kind.NAME, 50)
        page_seconds = time.perf_counter() - started
    db.engine().dispose()
    return {
        "examples": num_examples,
        "seconds": round(seconds, 1),
        "examples_per_second": round(num_examples / seconds),
        "findings": found,
        "values_of_a_kind_seconds": round(page_seconds, 2),
        "among_findings": num_findings + found,
    }


if __name__ == "__main__":
    main()
