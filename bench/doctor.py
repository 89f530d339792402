"""How long the doctor takes, and then a page of examples: by place, words, finding and length.

    python -m bench.doctor [ROWS] [--trgm]

Starts a PostgreSQL of its own in a temporary folder and takes it away again. The rows are words as
frequent as in English prose, with rare ones between; 1 % of them are repeated, 1 % almost. --trgm
also builds PostgreSQL's own index over the texts, to compare.
"""

import gc
import json
import os
import random
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

NUM_JOINED = 30_000


def words() -> tuple[list[str], list[float]]:
    """Return words as frequent as in English prose, and behind them rare ones joined of two."""
    from collections import Counter
    from pydoc_data import topics

    prose = " ".join(topics.topics.values())
    counts = Counter(re.findall(r"[a-z]+", prose.lower()))
    draw = random.Random(1)
    common = [word for word, _ in counts.most_common(4000)]
    joined = ["".join(draw.choices(common, k=2)) for _ in range(NUM_JOINED)]
    total, sums = 0.0, []
    for count in [*(counts[word] for word in common), *[0.5] * NUM_JOINED]:
        total += count
        sums.append(total)
    return [*common, *joined], sums


def spool(num_rows: int) -> Iterator[bytes]:
    import numpy as np

    draw = random.Random(2)
    known, sums = words()
    numbers = np.random.default_rng(3)
    drawn: list[list[int]] = []
    asked, answer = "", [""]
    for row in range(num_rows):
        if not drawn:
            shares = numbers.random((1000, 142)) * sums[-1]
            drawn = np.searchsorted(np.array(sums), shares).tolist()
        picked = [known[number] for number in drawn.pop()]
        chance = draw.random()
        if row == 0 or chance > 0.02:
            asked, answer = " ".join(picked[:12]), picked[12:]
        elif chance > 0.01:
            answer[draw.randrange(len(answer))] = "changed"
        if row == num_rows * 9 // 10:
            answer[40] = "zzyzx"
        said = [
            {"content": f"{asked}?", "role": "user"},
            {"content": " ".join(answer), "role": "assistant"},
        ]
        yield f"{rank_of(row)}\t{row + 1}\t{json.dumps(said)}\t\n".encode()


def rank_of(row: int) -> int:
    return row * 2654435761 % 2**32


def main() -> None:
    num_rows = next((int(each) for each in sys.argv[1:] if each.isdecimal()), 100_000)
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
    import resource

    from app.core import db, migrations, storage
    from app.core.models import Role, VersionStatus
    from app.datasets import examples, versions
    from app.datasets.doctor import checks
    from app.datasets.parts import Drawn
    from app.people import auth
    from worker.cpu import checking

    migrations.upgrade(db.engine())
    with db.session() as session:
        user = auth.create_user(session, None, "bench@house.example", Role.MEMBER)
        version = versions.add(session, user, storage.put("uploads", [b"x"]), "bench.csv")
        version.mapping = {"columns": [{"name": "q", "role": "question"}]}
        held_out = frozenset(rank for rank in map(rank_of, range(num_rows)) if rank < 2**32 // 10)
        started = time.perf_counter()
        written = examples.write(session, version, spool(num_rows), Drawn(test=held_out))
        version.num_train, version.num_test = written.num_train, written.num_test
        version.status = VersionStatus.READY
        checks.want(session, version)
        session.commit()
        show(rows=num_rows, write_seconds=time.perf_counter() - started)
        started = time.perf_counter()
        assert checking.check_next("bench")
        seconds = time.perf_counter() - started
        check = checks.of(session, version)
        assert check is not None
        session.refresh(check)
        report = checks.report_of(check)
        child = resource.getrusage(resource.RUSAGE_CHILDREN)
        show(
            check_seconds=seconds,
            of_which_child=report and report.seconds,
            child_cpu_seconds=child.ru_utime + child.ru_stime,
            largest_child_mb=child.ru_maxrss / 1024,
            reason=check.reason,
            found={one.kind: one.count for one in checks.findings(session, version)},
        )
        show(**sizes(session))
        pages(session, version, num_rows)
        if "--trgm" in sys.argv:
            trgm(session)
    db.engine().dispose()


def pages(session: Any, version: Any, num_rows: int) -> None:
    from app.core.models import Split
    from app.datasets import browsing
    from app.datasets.browsing import SortOrder, Wish

    known, _ = words()
    draw = random.Random(3)
    wishes: dict[str, Callable[[], Wish]] = {
        "place": Wish,
        "test set": lambda: Wish(split=Split.TEST),
        "a common word": lambda: Wish(words=known[5]),
        "a rare word": lambda: Wish(words=draw.choice(known[20_000:])),
        "two words": lambda: Wish(words=f"{draw.choice(known[2000:])} {draw.choice(known[:200])}"),
        "a word of one": lambda: Wish(words="zzyzx"),
        "a word of none": lambda: Wish(words="qqqqxxqq"),
        "repeats": lambda: Wish(finding="duplicate"),
        "repeats of the test set": lambda: Wish(finding="duplicate", split=Split.TEST),
        "longest": lambda: Wish(order=SortOrder.LONGEST),
        "shortest of the test set": lambda: Wish(order=SortOrder.SHORTEST, split=Split.TEST),
        "longest with a rare word": lambda: Wish(
            order=SortOrder.LONGEST, words=draw.choice(known[20_000:])
        ),
    }
    gc.collect()
    gc.freeze()  # as the web does: what this bench keeps is not to be walked amid a page
    for name, wish in wishes.items():
        took, shown, stopped = [], [], 0
        for turn in range(20):
            start = 0 if turn % 2 == 0 or "one" in name else draw.randrange(num_rows * 9 // 10)
            started = time.perf_counter()
            found = browsing.page(session, version, wish(), start)
            took.append((time.perf_counter() - started) * 1000)
            shown.append(len(found.examples))
            stopped += found.num_searched is not None
            session.expire_all()
            session.refresh(version)
        show(
            page=name,
            median_ms=statistics.median(took),
            max_ms=max(took),
            mean_shown=statistics.mean(shown),
            stopped_after_a_moment=stopped,
        )


def sizes(session: Any) -> dict[str, float]:
    from sqlalchemy import text

    return {
        f"{table}_mb": session.scalar(text(f"SELECT pg_total_relation_size('{table}')")) / 1e6
        for table in ("example", "search_bits", "finding", "dataset_check")
    }


def trgm(session: Any) -> None:
    from sqlalchemy import text

    started = time.perf_counter()
    session.execute(text("CREATE EXTENSION pg_trgm"))
    session.execute(text("SET LOCAL maintenance_work_mem = '512MB'"))
    index = "CREATE INDEX by_trgm ON example USING gin ((messages::text) gin_trgm_ops)"
    session.execute(text(index))
    seconds = time.perf_counter() - started
    size = session.scalar(text("SELECT pg_relation_size('by_trgm')"))
    show(trgm_seconds=seconds, trgm_mb=size / 1e6)


def show(**values: Any) -> None:
    rounded = {k: round(v, 1) if isinstance(v, float) else v for k, v in values.items()}
    print(json.dumps(rounded), flush=True)


if __name__ == "__main__":
    main()
