"""PostgreSQL: many rows in one statement, many statements and their commit in one round trip.

A decision waits for the database as often as it asks it, and on a busy machine every question costs two changes of
process. So what a batch of decisions writes leaves as one pipeline (libpq's pipeline mode), and its rows travel as
arrays: a statement has the same text however many rows it carries, so the server keeps its plan.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

from sqlalchemy import Column, Connection, Table
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import DBAPIError
from sqlalchemy.types import JSON

Row = Mapping[str, Any]
_dialect = postgresql.dialect()  # type: ignore[no-untyped-call]


class RowsMissingError(RuntimeError):
    """Of the rows that were to change, some do not exist; nothing was kept."""


def speaks_pipeline(connection: Connection) -> bool:
    return connection.dialect.name == "postgresql"


@contextmanager
def _translated() -> Iterator[None]:
    """psycopg's errors as SQLAlchemy's own, which the rest of the appliance knows."""
    import psycopg

    try:
        yield
    except psycopg.errors.DivisionByZero as missing:
        raise RowsMissingError("the database does not have all rows that were to change") from missing
    except psycopg.Error as failure:
        raise DBAPIError.instance("a pipeline", {}, failure, psycopg.Error, dialect=_dialect) from failure


@cache
def _array(column: Column[Any]) -> str:
    return f"{column.type.compile(_dialect)}[]"


def _values(column: Column[Any], rows: Sequence[Row], name: str) -> list[Any]:
    if isinstance(column.type, JSON):
        return [json.dumps(row[name]) for row in rows]
    # Members of a StrEnum are told to psycopg as what they are.
    return [str(value) if isinstance(value := row[name], str) else value for row in rows]


def _default(column: Column[Any]) -> Any:
    default = column.default
    if default is None or default.is_sequence:
        raise ValueError(f"{column} has no value and no default")
    return default.arg(None) if default.is_callable else default.arg  # type: ignore[attr-defined]


class Pipeline:
    """Statements gathered for one round trip, in the order in which they were added."""

    def __init__(self, connection: Connection) -> None:
        self._raw: Any = connection.connection.driver_connection
        self._statements: list[tuple[str, dict[str, Any]]] = []

    def add(self, text: str, parameters: Row) -> None:
        self._statements.append((text, dict(parameters)))

    def insert(self, table: Table, rows: Iterable[Row]) -> None:
        """Columns that the rows do not name get their default."""
        whole = [dict(row) for row in rows]
        counted = table.autoincrement_column if any(each.autoincrement is True for each in table.columns) else None
        named = [each for each in table.columns if each.name in whole[0] or each is not counted]
        for column in named:
            if column.name not in whole[0]:
                for row in whole:
                    row[column.name] = None if column.nullable and column.default is None else _default(column)
        names = ", ".join(f'"{each.name}"' for each in named)
        arrays = ", ".join(f"%({each.name})s::{_array(each)}" for each in named)
        text = f'INSERT INTO "{table.name}" ({names}) SELECT * FROM unnest({arrays})'  # noqa: S608 - names of our own
        self.add(text, {each.name: _values(each, whole, each.name) for each in named})

    def change(self, table: Table, rows: Sequence[Row], settings: str) -> None:
        """Change rows by their `id`; `settings` may use the values of a row as `v.NAME`. Every row must be there."""
        named = [table.columns[name] for name in rows[0]]
        names = ", ".join(f'"{each.name}"' for each in named)
        arrays = ", ".join(f"%({each.name})s::{_array(each)}" for each in named)
        # An error is the one thing that can stop the commit behind it in the same round trip.
        text = (
            f'WITH changed AS (UPDATE "{table.name}" AS t SET {settings} '  # noqa: S608 - names of our own
            f"FROM unnest({arrays}) AS v ({names}) WHERE t.id = v.id RETURNING 1) "
            "SELECT 1 / (count(*) = %(wanted)s)::int FROM changed"
        )
        values = {each.name: _values(each, rows, each.name) for each in named}
        self.add(text, {**values, "wanted": len(rows)})

    def run(self, *, commit: bool) -> None:
        """Send everything and wait once. Raises SQLAlchemy's errors, and RowsMissingError."""
        with _translated(), self._raw.pipeline():
            for text, parameters in self._statements:
                self._raw.execute(text, parameters)
            if commit:
                self._raw.execute("COMMIT")
        self._statements.clear()

    def read(self) -> list[list[tuple[Any, ...]]]:
        """Send everything, wait once, and give the rows of each statement."""
        with _translated():
            with self._raw.pipeline():
                cursors = [self._raw.execute(text, parameters) for text, parameters in self._statements]
            self._statements.clear()
            return [cursor.fetchall() for cursor in cursors]
