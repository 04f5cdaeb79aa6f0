"""Opening the database, bringing its schema up to date, and transactions that only the deciding process can commit.

SQLite runs in WAL mode with full synchronisation and takes its write lock at the start of a writing transaction, so a
reader never turns into a writer halfway. PostgreSQL locks the `scheduler` row for share in every deciding transaction:
a takeover, which updates that row, waits for the ones under way and defeats all later ones of the former process.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import structlog
from alembic import command
from alembic.config import Config
from sqlalchemy import (
    Connection,
    Engine,
    bindparam,
    create_engine,
    event,
    insert,
    make_url,
    select,
    text,
    tuple_,
    update,
)
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from sqlalchemy.orm import Session

from appliance.state.models import Lease, Scheduler, now
from appliance.state.pipeline import Pipeline, speaks_pipeline

KEPT_S = 1.0
"""For how long the connection of one transaction serves the next without being tried out."""
START_S = 120.0
START_AGAIN_S = 1.0
T = TypeVar("T")
log = structlog.get_logger(__name__)
DEPOSE_AFTER = timedelta(seconds=6)
"""A process that has not renewed its office for so long may be replaced."""


class DeposedError(RuntimeError):
    """Another appliance process decides now; nothing of this transaction was kept."""


class DatabaseGoneError(RuntimeError):
    """The database does not answer; nothing of this transaction was kept."""


def open_database(url: str) -> Engine:
    """An engine for `url` (`sqlite:////var/lib/gpuferry/appliance.db`, `postgresql://user@host/name`)."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "postgresql":
        engine = create_engine(
            parsed.set(drivername="postgresql+psycopg"),
            pool_pre_ping=True,
            pool_size=8,
            max_overflow=8,
            connect_args={"connect_timeout": 5, "options": "-c statement_timeout=15000 -c lock_timeout=10000"},
        )
    elif parsed.get_backend_name() == "sqlite":
        if parsed.database:
            Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
        engine = create_engine(parsed, connect_args={"timeout": 10, "check_same_thread": False}, pool_size=8)
        event.listen(engine, "connect", _prepare_sqlite)
    else:
        raise ValueError(f"{url!r}: the appliance keeps its state in sqlite:// or postgresql://, nothing else")
    return engine


def _prepare_sqlite(connection: Any, record: Any) -> None:
    # The driver would open transactions by itself, and only before the first write.
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=10000"):
        connection.execute(f"PRAGMA {pragma}")


def alembic_config(url: str) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["url"] = url
    return config


def migrate(url: str) -> None:
    """Bring the schema of `url` to the newest revision; does nothing when it is there already."""
    command.upgrade(alembic_config(url), "head")


def patiently(action: Callable[[], T], seconds: float = START_S) -> T:
    """Do what a process begins with, again while the database does not answer: at boot it may come up later than the
    appliance, and a disk that is overrun keeps its lock for long. Raises DatabaseGoneError after so many seconds."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            with _said_as_gone():
                return action()
        except DatabaseGoneError as away:
            if time.monotonic() > deadline:
                raise
            log.warning("waits-for-database", why=str(away))
            time.sleep(START_AGAIN_S)


@contextmanager
def _said_as_gone() -> Iterator[None]:
    try:
        yield
    except OperationalError as failure:
        raise DatabaseGoneError(f"the database does not answer ({str(failure.orig).splitlines()[0]})") from failure


@contextmanager
def reading(engine: Engine) -> Iterator[Session]:
    """A session that only reads. Raises DatabaseGoneError."""
    with translated(engine), Session(engine) as session:
        yield session


@contextmanager
def writing(engine: Engine) -> Iterator[Session]:
    """A session whose changes are committed together at the end, or not at all. Raises DatabaseGoneError."""
    with translated(engine), Session(engine, expire_on_commit=False) as session, session.begin():
        begin_write(session.connection())
        yield session


def begin_write(connection: Connection) -> None:
    """On SQLite, take the write lock now: a transaction that read first could not wait for it later."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE")


@contextmanager
def translated(engine: Engine) -> Iterator[None]:
    """Lost or refused connections and full disks become DatabaseGoneError; broken rules stay what they are."""
    try:
        yield
    except IntegrityError:
        raise
    except DBAPIError as failure:
        why = " ".join(str(failure.orig).split())
        raise DatabaseGoneError(
            f"the database {engine.url.render_as_string(hide_password=True)} does not answer ({why}); "
            "nothing was changed. Check that it runs and is reachable; the appliance tries again by itself"
        ) from failure


_epoch_locked = select(Scheduler.epoch).where(Scheduler.id == 1).with_for_update(read=True)


class Office:
    """The right to decide over leases, held by one appliance process at a time.

    `epoch` is the number of this term. Daemons refuse orders of an epoch lower than one they have seen, the database
    refuses transactions of it: a process that was paused for an hour and wakes up can do no harm.
    """

    def __init__(self, engine: Engine, holder: str, endpoint: str) -> None:
        self.engine = engine
        self.holder = holder
        self.endpoint = endpoint
        self.epoch = 0
        self._kept: Connection | None = None
        self._kept_at = 0.0

    def campaign(self) -> bool:
        """Take the office when it is free or its holder has not renewed it in time; True when this process holds it."""
        with translated(self.engine), self.engine.connect() as connection:
            begin_write(connection)
            clock = database_clock(connection)
            row = connection.execute(
                select(Scheduler.holder, Scheduler.epoch, Scheduler.renewed_at)
                .where(Scheduler.id == 1)
                .with_for_update()
            ).one_or_none()
            if row is None:
                self.epoch = 1
                connection.execute(
                    insert(Scheduler).values(
                        id=1, holder=self.holder, epoch=1, endpoint=self.endpoint, renewed_at=clock, fence=0
                    )
                )
            elif row.holder == self.holder and row.epoch == self.epoch:
                connection.execute(update(Scheduler).where(Scheduler.id == 1).values(renewed_at=clock))
            elif clock - row.renewed_at < DEPOSE_AFTER and row.holder:
                connection.rollback()
                self.epoch = 0
                return False
            else:
                self.epoch = row.epoch + 1
                connection.execute(
                    update(Scheduler)
                    .where(Scheduler.id == 1)
                    .values(holder=self.holder, epoch=self.epoch, endpoint=self.endpoint, renewed_at=clock)
                )
            connection.commit()
            return True

    def resign(self) -> None:
        """Leave the office at once, so that another process need not wait."""
        with translated(self.engine), self.engine.connect() as connection:
            begin_write(connection)
            connection.execute(
                update(Scheduler).where(Scheduler.id == 1, Scheduler.epoch == self.epoch).values(holder="")
            )
            connection.commit()
        self.epoch = 0

    @contextmanager
    def deciding(self, asked: Sequence[tuple[str, str]] = ()) -> Iterator[tuple[Connection, list[EndedRequest]]]:
        """One transaction of the holder, and what is known of requests (client, name) that were made before.

        Raises DeposedError or DatabaseGoneError, and then nothing was kept.
        """
        with translated(self.engine):
            connection = self._connection()
            try:
                connection.begin()  # for SQLAlchemy: what goes through a pipeline begins by itself
                begin_write(connection)
                held, known = _look_up(connection, asked)
                if held != self.epoch:
                    raise DeposedError(f"epoch {self.epoch} is over: epoch {held} decides now")
                yield connection, known
                connection.commit()
            except BaseException:
                self._kept = None
                connection.invalidate()
                connection.close()
                raise
            self._kept_at = time.monotonic()

    def _connection(self) -> Connection:
        """The connection of the transaction before, while that is fresh; else one that the pool has tried out."""
        if self._kept is not None and time.monotonic() - self._kept_at < KEPT_S:
            return self._kept
        if self._kept is not None:
            self._kept.close()
        self._kept = self.engine.connect()
        return self._kept

    def close(self) -> None:
        """Give the connection back; from the thread that decides."""
        if self._kept is not None:
            self._kept.close()
            self._kept = None


class EndedRequest(NamedTuple):
    """A request that a client has made before: which lease it got, and why that ended."""

    client_id: str
    request: str
    lease: str
    reason: str


_asked_before = select(Lease.client_id, Lease.request, Lease.id, Lease.reason).where(
    tuple_(Lease.client_id, Lease.request).in_(bindparam("pairs", expanding=True))
)
_ASKED_BEFORE = (
    "SELECT client_id, request, id, reason FROM lease "
    "WHERE (client_id, request) IN (SELECT * FROM unnest(%(clients)s::varchar[], %(requests)s::varchar[]))"
)


def _look_up(connection: Connection, asked: Sequence[tuple[str, str]]) -> tuple[int | None, list[EndedRequest]]:
    """Lock and read the epoch, and read what the requests came to; on PostgreSQL in one round trip."""
    if not speaks_pipeline(connection):
        epoch = connection.execute(_epoch_locked).scalar_one_or_none()
        rows = connection.execute(_asked_before, {"pairs": list(asked)}).all() if asked else []
        return epoch, [EndedRequest(*row) for row in rows]
    pipeline = Pipeline(connection)
    pipeline.add("SELECT epoch FROM scheduler WHERE id = 1 FOR SHARE", {})
    if asked:
        clients, requests = zip(*asked, strict=True)
        pipeline.add(_ASKED_BEFORE, {"clients": list(clients), "requests": list(requests)})
    epochs, *found = pipeline.read()
    return epochs[0][0] if epochs else None, [EndedRequest(*row) for rows in found for row in rows]


def database_clock(connection: Connection) -> datetime:
    """The database's own time: several appliance machines need not agree on theirs."""
    if connection.dialect.name == "postgresql":
        clock: datetime = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
        return clock
    return now()
