"""Backup and restore of everything the appliance knows, and the support bundle.

A backup is one tar.gz: the site's folder with its keys, and the rows of every table as JSON lines, read in one
transaction, so that it fits either database. Whoever has a backup is the appliance: it is written for its owner only.
"""

from __future__ import annotations

import base64
import io
import json
import platform
import sys
import tarfile
from collections.abc import Iterator
from datetime import datetime
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, Table, insert, select, text
from sqlalchemy.orm import Session

from appliance.log import hide_secrets
from appliance.site import Site, SiteError
from appliance.state.database import begin_write, migrate, open_database, reading, translated
from appliance.state.models import Audit, Base, Event, Lease, Reading, Server, now
from gpuserver.protocol.control.curve import write_private

KEYS = ("site.json", "curve.json", "master.key", "ca.pem", "ca.key", "tls.pem", "tls.key", "local.token")
FORMAT = 1
CHUNK = 500


class BackupError(RuntimeError):
    """A backup that cannot be read or restored; nothing was changed."""


def _tables() -> list[Table]:
    return [table for table in Base.metadata.sorted_tables if table.name not in ("instance", "change", "run_executor")]


def write_backup(site: Site, engine: Engine, path: Path) -> dict[str, int]:
    """Write a backup; returns how many rows of each table it holds."""
    counts: dict[str, int] = {}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name in KEYS:
            if (site.folder / name).exists():
                _add(archive, f"site/{name}", (site.folder / name).read_bytes())
        with translated(engine), engine.connect() as connection:
            if connection.dialect.name == "postgresql":
                connection.execution_options(isolation_level="REPEATABLE READ")
            else:
                connection.execute(text("BEGIN"))
            for table in _tables():
                rows = [json.dumps(dict(row), default=_plain) for row in connection.execute(select(table)).mappings()]
                counts[table.name] = len(rows)
                _add(archive, f"tables/{table.name}.jsonl", "\n".join(rows).encode())
            connection.rollback()
        about = {"format": FORMAT, "made_at": now().isoformat(), "rows": counts}
        _add(archive, "backup.json", json.dumps(about, indent=1).encode())
    write_private(path, buffer.getvalue())
    return counts


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode, entry.mtime = len(content), 0o600, int(now().timestamp())
    archive.addfile(entry, io.BytesIO(content))


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return {"at": value.isoformat()}
    if isinstance(value, bytes):
        return {"bytes": base64.b64encode(value).decode()}
    raise TypeError(f"{value!r} cannot be backed up")


def restore_backup(path: Path, folder: Path, database: str | None = None) -> dict[str, int]:
    """Make a site of a backup: into an empty folder, and an empty database (the backup's own URL unless one is given).

    Leases come back as they were; the daemons say which of them they still hold. Raises BackupError.
    """
    files = _read(path)
    about = json.loads(files.get("backup.json", b"{}"))
    if about.get("format") != FORMAT:
        raise BackupError(f"{path} is not a backup of this version (format {about.get('format')}, {FORMAT} is known)")
    if (folder / "site.json").exists():
        raise BackupError(f"{folder} is a site already: restore into an empty folder")
    config = json.loads(files["site/site.json"])
    config["database"] = database or config["database"]
    migrate(config["database"])
    engine = open_database(config["database"])
    try:
        with translated(engine), engine.connect() as connection:
            begin_write(connection)
            for table in _tables():
                if connection.execute(select(table).limit(1)).first() is not None:
                    raise BackupError(f"the database has rows in {table.name} already: restore into an empty one")
            for table in _tables():
                lines = files.get(f"tables/{table.name}.jsonl", b"").decode().splitlines()
                rows = [json.loads(line, object_hook=_revive) for line in lines]
                for start in range(0, len(rows), CHUNK):
                    connection.execute(insert(table), rows[start : start + CHUNK])
            _move_sequences(connection)
            connection.commit()
    finally:
        engine.dispose()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for name in KEYS:
        if f"site/{name}" in files and name != "site.json":
            write_private(folder / name, files[f"site/{name}"])
    write_private(folder / "site.json", json.dumps(config, indent=1).encode())
    return {str(name): int(count) for name, count in about["rows"].items()}


def _move_sequences(connection: Any) -> None:
    """PostgreSQL does not notice that rows came with their numbers."""
    if connection.dialect.name == "postgresql":
        for name in ("event", "audit"):
            query = (
                f"SELECT setval(pg_get_serial_sequence('{name}', 'id'), coalesce(max(id), 0) + 1, false) FROM {name}"  # noqa: S608 - fixed names
            )
            connection.execute(text(query))


def _revive(value: dict[str, Any]) -> Any:
    if set(value) == {"at"}:
        return datetime.fromisoformat(value["at"])
    return base64.b64decode(value["bytes"]) if set(value) == {"bytes"} else value


def _read(path: Path) -> dict[str, bytes]:
    try:
        with tarfile.open(path, "r:gz") as archive:
            return {each.name: content.read() for each in archive if (content := archive.extractfile(each))}
    except (OSError, tarfile.TarError, EOFError) as wrong:
        raise BackupError(f"{path} cannot be read as a backup: {wrong}") from wrong


def _packages() -> Iterator[str]:
    return (f"{each.metadata['Name']} {each.version}" for each in distributions())


def is_embedded(path: Path) -> bool:
    """Whether the site of a backup kept its database in its own folder."""
    return str(json.loads(_read(path).get("site/site.json", b"{}")).get("database", "")).startswith("sqlite")


def write_support_bundle(site: Site, engine: Engine, path: Path, logs: list[Path]) -> list[str]:
    """What somebody who helps needs to know, with secrets removed; returns the names of its parts.

    Keys, tokens, sealed passwords and their digests are left out altogether; texts are searched for secrets.
    """
    parts: dict[str, str] = {
        "about.txt": "\n".join([f"python {sys.version}", f"system {platform.platform()}", *sorted(_packages())]),
        "site.json": hide_secrets((site.folder / "site.json").read_text()),
    }
    with reading(engine) as session:
        parts["migrations.txt"] = str(session.execute(text("SELECT version_num FROM alembic_version")).scalar())
        parts["counts.json"] = json.dumps(dict(_counts(session)), indent=1)
        for table, order in ((Event, Event.id.desc()), (Audit, Audit.id.desc())):
            parts[f"{table.__tablename__}.jsonl"] = _lines(session, table, select(table).order_by(order).limit(5000))
        for whole in (Server, Reading, Lease):
            parts[f"{whole.__tablename__}.jsonl"] = _lines(session, whole, select(whole).limit(20_000))
    for log in logs:
        try:
            parts[f"logs/{log.name}"] = log.read_text(errors="replace")[-5_000_000:]
        except OSError as wrong:
            raise SiteError(f"the log {log} cannot be read: {wrong}") from wrong
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in parts.items():
            _add(archive, name, hide_secrets(content).encode())
    write_private(path, buffer.getvalue())
    return sorted(parts)


def _counts(session: Session) -> Iterator[tuple[str, int]]:
    for table in Base.metadata.sorted_tables:
        yield table.name, int(session.execute(text(f"SELECT count(*) FROM {table.name}")).scalar_one())  # noqa: S608 - our own tables


HIDDEN = {"public_key", "digest", "sealed_password"}


def _lines(session: Session, table: Any, query: Any) -> str:
    names = [column.key for column in table.__mapper__.column_attrs if column.key not in HIDDEN]
    rows = ({name: getattr(row, name) for name in names} for row in session.scalars(query))
    return "\n".join(json.dumps(row, default=str) for row in rows)
