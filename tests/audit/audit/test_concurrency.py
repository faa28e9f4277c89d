"""Many writers, and writers that are killed: the order stays gapless and nothing acknowledged is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Engine, create_engine
from sqlalchemy.orm import Session

from secure_train.audit import AuditLog, Event, NoteSigner, verify_log
from secure_train.audit.tables import metadata

Make = Callable[..., Event]

WRITER = """
import sys
from secure_train.audit import AuditLog, Event
from sqlalchemy import create_engine

url, origin, name, mode = sys.argv[1:]
log, engine = AuditLog(origin), create_engine(url)
for number in range(100_000):
    with engine.connect() as connection:
        keys = [f"{name}-{number}-{part}" for part in (0, 1)]
        made = [Event("job.step", "job:writer", f"job:{name}", {}, key) for key in keys]
        log.append(connection, made[0])
        if mode == "hang":
            print("pending", flush=True)
            sys.stdin.read()
        log.append(connection, made[1])
        connection.commit()
    print(number, flush=True)
"""


def start_writer(url: str, origin: str, name: str, mode: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, url, origin, name, mode]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True)


def kill(writer: subprocess.Popen[str]) -> str:
    """SIGKILL; returns what the writer had still said."""
    os.kill(writer.pid, signal.SIGKILL)
    rest, _ = writer.communicate()
    return rest


def test_8_concurrent_writers_leave_a_gapless_order_and_a_valid_tree(
    postgresql_url: str, log: AuditLog, event: Make, signer: NoteSigner
) -> None:
    engine = create_engine(postgresql_url, pool_size=8)
    metadata.create_all(engine)

    def write(writer: int) -> list[int]:
        placed = []
        for number in range(20):
            with Session(engine) as session, session.begin():
                # Every fourth event is one that all writers report: one of them is first.
                key = f"shared-{number}" if number % 4 == 0 else f"{writer}-{number}"
                made = event(0, data={"number": number}, idempotency_key=key)
                placed.append(log.append(session, made).seq)
        return placed

    with ThreadPoolExecutor(8) as pool:
        placed = [seq for seqs in pool.map(write, range(8)) for seq in seqs]
    with Session(engine) as session:
        report = verify_log(session, signer.verifier)
        assert [record.seq for record in log.events(session)] == list(range(report.size))
    assert report.size == 8 * 15 + 5
    assert set(placed) == set(range(report.size))
    engine.dispose()


def test_a_writer_killed_inside_its_transaction_leaves_no_trace(
    engine: Engine, database_url: str, log: AuditLog, event: Make, signer: NoteSigner
) -> None:
    writer = start_writer(database_url, log.origin, "w", "hang")
    assert writer.stdout is not None
    assert writer.stdout.readline() == "pending\n"
    kill(writer)
    with Session(engine) as session, session.begin():
        assert log.append(session, event(0)).seq == 0
        assert verify_log(session, signer.verifier).size == 1


@pytest.mark.parametrize("acknowledged", [1, 7])
def test_a_killed_writer_loses_nothing_acknowledged_and_breaks_nothing(
    engine: Engine, database_url: str, log: AuditLog, event: Make, signer: NoteSigner, acknowledged: int
) -> None:
    writer = start_writer(database_url, log.origin, "w", "run")
    assert writer.stdout is not None
    said = [writer.stdout.readline() for _ in range(acknowledged)]
    said += kill(writer).splitlines(keepends=True)
    transactions = sum(line.endswith("\n") for line in said)
    with Session(engine) as session, session.begin():
        keys = [record.idempotency_key for record in log.events(session)]
        # The last transaction may have committed without having said so.
        assert len(keys) // 2 in (transactions, transactions + 1)
        assert keys == [f"w-{number}-{part}" for number in range(len(keys) // 2) for part in (0, 1)]
        assert log.append(session, event(0)).seq == len(keys)
        assert verify_log(session, signer.verifier).size == len(keys) + 1
