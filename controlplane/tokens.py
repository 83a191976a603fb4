"""Bearer tokens: 256 random bits with a prefix that names the role, stored as SHA-256 only."""

from __future__ import annotations

import hashlib
import secrets
import threading
from dataclasses import dataclass

from scheduler.acts import SERVER
from scheduler.chain import Act
from scheduler.clock import Clock
from scheduler.errors import NotFoundError, Problem, RefusedError
from scheduler.store import access, audit
from scheduler.store.audit import Entry
from scheduler.store.records import TokenRecord
from scheduler.store.session import Connection, Store, Transaction

JOIN = "join"
ROLES = ("operator", "buyer", "viewer", "agent", JOIN)
JOIN_S = 3600.0
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


def add_token(conn: Connection, record: TokenRecord, by: str) -> None:
    """Store a new token, and that it was made; nothing of its text is written down, nor its hash in the audit log."""
    access.add_token(conn, record)
    told = {"role": record.role, "cluster": record.cluster, "expires_at": record.expires_at}
    audit.append(conn, [Entry(Act.TOKEN_CREATED, record.id, by, record.created_at, told, record.tenant)])


def joined_id(token_id: str) -> str:
    """The id of the agent's token that a join token was used for. There is one, so a join token has one use."""
    return f"{token_id}-agent"


def _check_join(token: TokenRecord, made: TokenRecord | None, cluster: str | None, now: float) -> None:
    fresh = f"make another with `cpn cluster token {token.cluster}`"
    if cluster not in (None, token.cluster):
        raise _refused("another-cluster", f"this join token is for the cluster {token.cluster!r}, not for {cluster!r}")
    if made is not None and made.revoked_at is not None:
        raise _refused("revoked", f"the token of the agent that joined with this join token was revoked; {fresh}")
    if made is not None:
        raise _refused("used", f"this join token was used already, by another agent or on another disk; {fresh}")
    if token.revoked_at is not None:
        raise _refused("revoked", f"this join token was revoked; {fresh}")
    if token.expires_at is not None and token.expires_at <= now:
        raise _refused("expired", f"this join token has expired; {fresh}")


def _refused(reason: str, message: str) -> RefusedError:
    return RefusedError((Problem("token", reason, message),))


class TokenBook:
    """Looks tokens up, remembering good ones for a moment; a revocation here is seen at once. Thread-safe."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store, self._clock = store, clock
        self._lock = threading.Lock()
        self._known: dict[str, tuple[TokenRecord, float]] = {}

    def create(
        self, role: str, *, tenant: str | None = None, cluster: str | None = None, expires_at: float | None = None, by: str = SERVER
    ) -> tuple[TokenRecord, str]:
        """A new token and its text, which nobody can read again. `by` is the token that asks for it."""
        secret, now = new_secret(role), self._clock.now()
        record = TokenRecord(f"tok-{secrets.token_hex(6)}", digest(secret), role, tenant, cluster, now, expires_at, None)
        self._store.write(lambda tx: add_token(tx.conn, record, by))
        return record, secret

    def revoke(self, token_id: str, by: str = SERVER) -> TokenRecord:
        """End a token now, as the token `by` asks for. Raises NotFoundError."""
        now = self._clock.now()

        def work(tx: Transaction) -> TokenRecord:
            record = access.revoke_token(tx.conn, token_id, now)
            audit.append(tx.conn, [Entry(Act.TOKEN_REVOKED, record.id, by, now, {"role": record.role}, record.tenant)])
            return record

        record = self._store.write(work)
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

    def find(self, secret: str) -> TokenRecord | None:
        """The token with this text, whatever its standing."""
        return self._find(digest(secret))

    def by_id(self, token_id: str) -> TokenRecord:
        """The token with this id, whatever its standing. Raises NotFoundError."""
        with self._store.read() as conn:
            found = access.token_by_id(conn, token_id)
        if found is None:
            raise NotFoundError(f"there is no token {token_id!r}")
        return found

    def check_join(self, token: TokenRecord, cluster: str | None) -> None:
        """Raises RefusedError when this join token cannot be used now, or not for this cluster, and says why."""
        with self._store.read() as conn:
            made = access.token_by_id(conn, joined_id(token.id))
        _check_join(token, made, cluster, self._clock.now())

    def join(self, token: TokenRecord, cluster: str | None, agent_hash: str) -> TokenRecord:
        """Use a join token: the agent's token with this hash is valid from now on. The same use again changes nothing.

        Raises RefusedError when it was used for another token, is expired, revoked, or for another cluster.
        """
        now = self._clock.now()

        def work(tx: Transaction) -> TokenRecord:
            made = access.token_by_id(tx.conn, joined_id(token.id))
            if made is not None and made.hash == agent_hash and made.revoked_at is None and cluster in (None, token.cluster):
                return made
            _check_join(token, made, cluster, now)
            record = TokenRecord(joined_id(token.id), agent_hash, "agent", None, token.cluster, now, None, None)
            add_token(tx.conn, record, token.id)
            return record

        return self._store.write(work)

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
