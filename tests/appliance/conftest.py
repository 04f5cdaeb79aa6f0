"""A fresh database for every test, of both kinds: an SQLite file, and a database of a private PostgreSQL cluster."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, make_url, text

from appliance.state.database import migrate, open_database

NUMBERS = itertools.count(1)

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # A shell's background job ignores SIGINT, and so would every program that a test starts and interrupts.
    signal.signal(signal.SIGINT, signal.default_int_handler)


class PostgresCluster:
    """A PostgreSQL server of the tests' own, on a UNIX socket; as root it runs under the account `postgres`."""

    def __init__(self, folder: Path) -> None:
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
        if not found:
            raise FileNotFoundError("PostgreSQL is not installed (Debian: apt-get install postgresql)")
        self.bin = found[-1]
        self.folder = folder
        self.user = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
        self._as: list[str] = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        if self._as:
            shutil.chown(folder, "postgres")
        self._run("initdb", "-D", str(folder / "data"), "-A", "trust", "-U", "postgres", "--no-sync")
        self.start()

    def _run(self, program: str, *arguments: str) -> None:
        command = [*self._as, str(self.bin / program), *arguments]
        subprocess.run(command, check=True, cwd=self.folder, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)

    def start(self) -> None:
        options = f"-k {self.folder} -c listen_addresses='' -c fsync=off -c max_connections=200"
        log = str(self.folder / "log")
        self._run("pg_ctl", "-D", str(self.folder / "data"), "-w", "-l", log, "-o", options, "start")

    def stop(self, mode: str = "immediate") -> None:
        self._run("pg_ctl", "-D", str(self.folder / "data"), "-m", mode, "-w", "stop")

    def new_database(self) -> str:
        """A migrated database; the migrations run once, the others are copies."""
        name = f"site{next(NUMBERS)}"
        admin = create_engine(self.url("postgres"), isolation_level="AUTOCOMMIT")
        with admin.connect() as connection:
            if not connection.execute(text("SELECT 1 FROM pg_database WHERE datname = 'pattern'")).scalar():
                connection.execute(text("CREATE DATABASE pattern"))
                migrate(self.url("pattern"))
            connection.execute(text(f"CREATE DATABASE {name} TEMPLATE pattern"))
        admin.dispose()
        return self.url(name)

    def empty_database(self) -> str:
        name = f"site{next(NUMBERS)}"
        admin = create_engine(self.url("postgres"), isolation_level="AUTOCOMMIT")
        with admin.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
        admin.dispose()
        return self.url(name)

    def url(self, name: str) -> str:
        url = make_url("postgresql+psycopg://postgres@/").set(database=name, query={"host": str(self.folder)})
        return url.render_as_string(hide_password=False)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresCluster]:
    # In memory where there is such a place: a cluster of many small databases is thousands of files.
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="gpuferry-pg-", dir=memory if memory.is_dir() else None))
    try:
        cluster = PostgresCluster(folder)
    except FileNotFoundError as missing:
        pytest.skip(str(missing))
    yield cluster
    cluster.stop()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def sqlite_pattern(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sqlite") / "pattern.db"
    migrate(f"sqlite:///{path}")
    return path


@pytest.fixture
def new_database(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], str]:
    """Makes an empty, migrated database of a kind and gives its URL."""

    def make(kind: str) -> str:
        if kind == "postgresql":
            return str(request.getfixturevalue("postgres").new_database())
        path = tmp_path / f"appliance-{next(NUMBERS)}.db"
        shutil.copy(request.getfixturevalue("sqlite_pattern"), path)
        return f"sqlite:///{path}"

    return make


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, new_database: Callable[[str], str]) -> str:
    return new_database(str(request.param))


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    engine = open_database(database_url)
    yield engine
    engine.dispose()
