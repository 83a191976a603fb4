"""Bearer tokens: 256 random bits with a prefix that names the role, stored as SHA-256 only."""

from __future__ import annotations

import hashlib
import secrets
import threading
from dataclasses import dataclass

from scheduler.clock import Clock
from scheduler.store import access
from scheduler.store.records import TokenRecord
from scheduler.store.session import Store

ROLES = ("operator", "buyer", "viewer", "agent")
CACHE_S = 5.0


@dataclass(frozen=True)
class Principal:
    """Who calls: a role, bound to a tenant (buyer) or a cluster (agent)."""

    token_id: str
    role: str
    tenant: str | None
    cluster: str | None

    def may_see_tenant(self, tenant: str) -> bool:
        return self.role != "buyer" or self.tenant == tenant


def new_secret(role: str) -> str:
    """A fresh token text."""
    return f"cpn_{role}_{secrets.token_urlsafe(32)}"


def digest(secret: str) -> str:
    """What is stored of a token."""
    return hashlib.sha256(secret.encode()).hexdigest()


class TokenBook:
    """Looks tokens up, remembering good ones for a moment; a revocation here is seen at once. Thread-safe."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store, self._clock = store, clock
        self._lock = threading.Lock()
        self._known: dict[str, tuple[TokenRecord, float]] = {}

    def create(
        self, role: str, *, tenant: str | None = None, cluster: str | None = None, expires_at: float | None = None
    ) -> tuple[TokenRecord, str]:
        """A new token and its text, which nobody can read again."""
        secret, now = new_secret(role), self._clock.now()
        record = TokenRecord(f"tok-{secrets.token_hex(6)}", digest(secret), role, tenant, cluster, now, expires_at, None)
        self._store.write(lambda tx: access.add_token(tx.conn, record))
        return record, secret

    def revoke(self, token_id: str) -> TokenRecord:
        """End a token now. Raises NotFoundError."""
        now = self._clock.now()
        record = self._store.write(lambda tx: access.revoke_token(tx.conn, token_id, now))
        self.forget()
        return record

    def forget(self) -> None:
        """Look every token up again."""
        with self._lock:
            self._known.clear()

    def identify(self, secret: str) -> Principal | None:
        """Who holds this token; None when it is unknown, expired or revoked."""
        record, now = self._find(digest(secret)), self._clock.now()
        if record is None or record.revoked_at is not None or (record.expires_at is not None and record.expires_at <= now):
            return None
        return Principal(record.id, record.role, record.tenant, record.cluster)

    def _find(self, mark: str) -> TokenRecord | None:
        now = self._clock.now()
        with self._lock:
            known = self._known.get(mark)
        if known is not None and now - known[1] < CACHE_S:
            return known[0]
        with self._store.read() as conn:
            record = access.token_by_hash(conn, mark)
        if record is not None:
            with self._lock:
                self._known[mark] = (record, now)
        return record
