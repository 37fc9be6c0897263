"""A database whose disk is full."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tests.web.clients import Served


@contextmanager
def full_disk(api: Served, table: str, what: str = "INSERT") -> Iterator[None]:
    """Nothing more fits into the table: the database's disk is full."""
    api.sql(
        """CREATE OR REPLACE FUNCTION disk_is_full() RETURNS trigger LANGUAGE plpgsql
           AS $$ BEGIN RAISE EXCEPTION 'no space left' USING ERRCODE = 'disk_full'; END $$"""
    )
    api.sql(f"CREATE TRIGGER full_disk BEFORE {what} ON {table} EXECUTE FUNCTION disk_is_full()")
    try:
        yield
    finally:
        api.sql(f"DROP TRIGGER full_disk ON {table}")
