"""Brings the schema to what this program needs: numbered SQL files, each applied once, all under one advisory lock.

`NNNN_name.sql` files are never edited after a release. Running twice does nothing the second time; two servers that start
together wait for each other.
"""

from __future__ import annotations

import hashlib
import re
from importlib import resources

import msgspec

from iac.errors import StartFailed
from iac.store.database import Connection, Database, Row

EX_SCHEMA = 78
_LOCK = 4_911_201_126  # any number, as long as it never changes
_FILE = re.compile(r"(\d{4})_\w+\.sql")


class Migration(msgspec.Struct, frozen=True):
    number: int
    name: str
    sql: str

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()


def migrations() -> list[Migration]:
    """The program's own migrations, in order."""
    found = []
    for entry in resources.files("iac.store").joinpath("migrations").iterdir():
        if match := _FILE.fullmatch(entry.name):
            found.append(Migration(int(match[1]), entry.name, entry.read_text(encoding="utf-8")))
    return sorted(found, key=lambda migration: migration.number)


async def migrate(database: Database) -> list[str]:
    """Applies what is missing and returns its names. Raises StartFailed (78) when the schema is newer than the program,
    or when an applied migration is not the one that this program knows.
    """
    return await database.tx(_migrate, migrations())


async def _migrate(c: Connection, known: list[Migration]) -> list[str]:
    await c.run("SET LOCAL lock_timeout = '120s'")
    await c.run("SELECT pg_advisory_xact_lock(:lock)", lock=_LOCK)
    await c.run(
        "CREATE TABLE IF NOT EXISTS schema_migration (number integer PRIMARY KEY, name text NOT NULL, "
        "digest text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
    )
    applied = {row["number"]: row for row in await c.all("SELECT number, name, digest FROM schema_migration")}
    _refuse_strangers(applied, known)
    missing = [migration for migration in known if migration.number not in applied]
    for migration in missing:
        await c.script(migration.sql)
        await c.run(
            "INSERT INTO schema_migration (number, name, digest) VALUES (:number, :name, :digest)",
            number=migration.number,
            name=migration.name,
            digest=migration.digest,
        )
    return [migration.name for migration in missing]


def _refuse_strangers(applied: dict[int, Row], known: list[Migration]) -> None:
    own = {migration.number: migration for migration in known}
    for number, row in sorted(applied.items()):
        name, digest = row["name"], row["digest"]
        if number not in own:
            raise StartFailed(
                f"The database was migrated by a newer IAC ({name}); this program knows up to "
                f"{max(own):04d}. Start the newer version, or restore a backup from before the upgrade.",
                exit_code=EX_SCHEMA,
            )
        if own[number].digest != digest:
            raise StartFailed(
                f"Migration {name} in the database is not the one this program has ({own[number].name}); it was built "
                "from other sources. Use the program that migrated the database.",
                exit_code=EX_SCHEMA,
            )
