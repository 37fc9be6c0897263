"""Which master keys the stored data needs: checked at start, before anything is served."""

from __future__ import annotations

from iac.errors import StartFailed
from iac.store.database import Connection
from iac.store.sealing import Keyring

_SEALED = (("variable", "value"), ("task", "bundle"), ("plan", "file"), ("state_version", "data"))


async def check(c: Connection, keyring: Keyring) -> None:
    """Notes the current key as used. Raises StartFailed (78) when stored data needs a key that is not here."""
    known = {row["key_id"] for row in await c.all("SELECT key_id FROM sealing_key")}
    for key in sorted(known - set(keyring.ids)):
        if table := await _used_in(c, key):
            raise StartFailed(
                f"IAC_SECRET_KEY: stored data ({table}) is sealed with key {key}, which is not among the given "
                f"({', '.join(keyring.ids)}). Give the old key too, after the new one, separated by a comma.",
                exit_code=78,
            )
    await c.run("INSERT INTO sealing_key (key_id) VALUES (:key) ON CONFLICT DO NOTHING", key=keyring.current)


async def _used_in(c: Connection, key: str) -> str | None:
    for table, column in _SEALED:
        found = await c.value(
            f"SELECT 1 FROM {table} WHERE substring({column} FROM 5 FOR 8) = decode(:key, 'hex') LIMIT 1",
            key=key,
        )
        if found:
            return table
    return None
