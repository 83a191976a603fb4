"""Settings of a control plane, from the environment (`CPN_*`) and the command line. Nothing else reads the environment."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from workloads.engines import ONE_WORKER_S

DEFAULT_PORT = 8642
# Conservative backfilling promises a start to so many blocked jobs; those behind them are reached when their turn is nearer.
LEAST = {
    "capture": 0, "max_capture_bytes": 1, "preemption_per_cycle": 0, "preemption_restarts": 0, "max_batch": 1, "max_batch_bytes": 1,
    "max_log_bytes": 4096, "max_result_bytes": 1, "max_files_bytes": 0,
    "keep_results_days": 0, "keep_results_bytes": 0, "keep_logs_days": 0, "keep_logs_bytes": 0,
}  # fmt: skip
BACKFILL, MOST_HEADS = ("none", "easy", "conservative"), 200
# What CPN_SCORES may name, as in `scheduler.engine.snapshot.Weights`, and the most that one may count.
SCORES = ("price", "transfer", "start", "run", "fragmentation", "topology", "spread", "pack", "carbon")
MOST_WEIGHT = 1e6
DATABASES = ("postgresql://", "postgres://", "postgresql+psycopg://", "sqlite:///")


@dataclass(frozen=True)
class Settings:
    """One control plane. An empty `database_url` means SQLite in the data directory; lists are separated by commas."""

    data_dir: Path
    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    database_url: str = ""
    per_queue: int = 1000
    max_array: int = 10_000
    max_files_bytes: int = 1024**2
    max_batch: int = 1000
    max_batch_bytes: int = 16 * 1024**2
    scores: str = ""
    history_weight: float = 0.0
    history_half_life_s: float = 86_400.0
    backfill: str = "easy"
    backfill_heads: int = 4
    flexible: int = 16
    preemption_per_cycle: int = 16
    preemption_restarts: int = 3
    preemption_claim_s: float = 120.0
    sql_one_worker_s: float = ONE_WORKER_S
    resize_settle_s: float = 30.0
    scale_up_limit_s: float = 900.0
    suspect_after_s: float = 15.0
    lost_after_s: float = 60.0
    lease_s: float = 45.0
    sweep_interval_s: float = 1.0
    max_result_bytes: int = 1024**3
    max_log_bytes: int = 64 * 1024**2
    keep_results_days: float = 0.0
    keep_results_bytes: int = 0
    keep_logs_days: float = 0.0
    keep_logs_bytes: int = 0
    keep_interval_s: float = 600.0
    store_retry_s: float = 30.0
    capture: int = 0
    max_capture_bytes: int = 256 * 1024**2
    zone_labels: str = ""
    rack_labels: str = ""
    allow_simulated: bool = False
    quote_validity_s: float = 900.0
    market_fee: Decimal = Decimal(0)
    statement_zone: str = "UTC"
    log_level: str = "info"

    @property
    def heads(self) -> int:
        """How many blocked jobs are promised a start."""
        return {"none": 0, "easy": self.backfill_heads, "conservative": MOST_HEADS}[self.backfill]

    @property
    def flexible_waits(self) -> int:
        """How many flexible jobs may wait for a cheaper hour, for which they are promised a start."""
        return self.flexible if self.heads else 0

    @property
    def store_url(self) -> str:
        """SQLAlchemy's URL of the store; plain postgresql:// URLs get the driver we ship."""
        if not self.database_url:
            return f"sqlite:///{self.data_dir / 'cpn.sqlite'}"
        for scheme in ("postgresql://", "postgres://"):
            if self.database_url.startswith(scheme):
                return "postgresql+psycopg://" + self.database_url.removeprefix(scheme)
        return self.database_url

    @property
    def score_weights(self) -> dict[str, float]:
        """How much each score counts that `scores` names; the others count what they usually do. Raises ValueError."""
        found: dict[str, float] = {}
        for part in filter(None, (part.strip() for part in self.scores.split(","))):
            name, _, text = (word.strip() for word in part.partition("="))
            if name not in SCORES:
                raise ValueError(f"CPN_SCORES: there is no score {name!r}; there are {', '.join(SCORES)}")
            if name in found:
                raise ValueError(f"CPN_SCORES: {name} is given twice; give it once")
            found[name] = _weight(name, text)
        return found

    def label_keys(self, name: Literal["zone_labels", "rack_labels"]) -> tuple[str, ...]:
        """The label keys of a list, in their order."""
        return tuple(key for part in getattr(self, name).split(",") if (key := part.strip()))


def default_data_dir(environ: dict[str, str]) -> Path:
    """CPN_DATA_DIR, or the user's data directory."""
    if environ.get("CPN_DATA_DIR"):
        return Path(environ["CPN_DATA_DIR"])
    return Path(environ.get("XDG_DATA_HOME") or Path.home() / ".local/share") / "cpn"


def load(environ: dict[str, str] | None = None, **overrides: Any) -> Settings:
    """Settings from CPN_<FIELD> variables; overrides that are not None win. Raises ValueError naming the variable."""
    environ = dict(os.environ) if environ is None else environ
    values: dict[str, Any] = {"data_dir": default_data_dir(environ)}
    for item in fields(Settings):
        name = f"CPN_{item.name.upper()}"
        if item.name != "data_dir" and environ.get(name):
            values[item.name] = _convert(name, environ[name], item.default)
    values.update({name: value for name, value in overrides.items() if value is not None})
    values["data_dir"] = Path(values["data_dir"]).absolute()
    if not values.get("max_array", 1) >= 1:
        raise ValueError(f"CPN_MAX_ARRAY={values['max_array']} must be 1 or more")
    if not values.get("history_weight", 0.0) >= 0:
        raise ValueError(f"CPN_HISTORY_WEIGHT={values['history_weight']} must be 0 or more")
    if not values.get("history_half_life_s", 1.0) > 0:
        raise ValueError(f"CPN_HISTORY_HALF_LIFE_S={values['history_half_life_s']} must be more than 0")
    if not values.get("sql_one_worker_s", 1.0) >= 0:
        raise ValueError(f"CPN_SQL_ONE_WORKER_S={values['sql_one_worker_s']} must be 0 or more")
    if not values.get("preemption_claim_s", 1.0) > 0:
        raise ValueError(f"CPN_PREEMPTION_CLAIM_S={values['preemption_claim_s']} must be more than 0")
    if not values.get("scale_up_limit_s", 1.0) > 0:
        raise ValueError(f"CPN_SCALE_UP_LIMIT_S={values['scale_up_limit_s']} must be more than 0")
    if not values.get("resize_settle_s", 0.0) >= 0:
        raise ValueError(f"CPN_RESIZE_SETTLE_S={values['resize_settle_s']} must be 0 or more")
    if not values.get("store_retry_s", 1.0) > 0:
        raise ValueError(f"CPN_STORE_RETRY_S={values['store_retry_s']} must be more than 0")
    if not values.get("keep_interval_s", 1.0) > 0:
        raise ValueError(f"CPN_KEEP_INTERVAL_S={values['keep_interval_s']} must be more than 0")
    for name, least in LEAST.items():
        if values.get(name, least) < least:
            raise ValueError(f"CPN_{name.upper()}={values[name]} must be {least} or more")
    if values.get("backfill", "easy") not in BACKFILL:
        raise ValueError(f"CPN_BACKFILL={values['backfill']} must be one of {', '.join(BACKFILL)}")
    if not 1 <= values.get("backfill_heads", 1) <= MOST_HEADS:
        raise ValueError(f"CPN_BACKFILL_HEADS={values['backfill_heads']} must be from 1 to {MOST_HEADS}")
    if not 0 <= values.get("flexible", 0) <= MOST_HEADS:
        raise ValueError(f"CPN_FLEXIBLE={values['flexible']} must be from 0 to {MOST_HEADS}")
    _check_money(values)
    _check_database(values.get("database_url", ""))
    settings = Settings(**values)
    settings.score_weights  # noqa: B018 - refuses what it cannot read
    return settings


def _check_money(values: dict[str, Any]) -> None:
    fee, zone = values.get("market_fee", Decimal(0)), values.get("statement_zone", "UTC")
    if not fee.is_finite() or not 0 <= fee <= 1:
        raise ValueError(f"CPN_MARKET_FEE={fee} must be from 0 to 1, like 0.05 for a twentieth of what data costs")
    if not values.get("quote_validity_s", 0.0) >= 0:
        raise ValueError(f"CPN_QUOTE_VALIDITY_S={values['quote_validity_s']} must be 0 or more")
    try:
        ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"CPN_STATEMENT_ZONE={zone} is no time zone; write a name like UTC or Asia/Shanghai") from None


def _check_database(url: str) -> None:
    """Refuse what is no URL of a database that a store can have; it is not repeated, because it may hold a password."""
    try:
        sound = not url or (url.startswith(DATABASES) and urlsplit(url).port != 0)
    except ValueError:
        sound = False
    if not sound:
        raise ValueError("CPN_DATABASE_URL is not the URL of a database; write it like postgresql://USER:PASSWORD@HOST:5432/DATABASE")


def _weight(name: str, text: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        weight = -1.0
    if not 0 <= weight <= MOST_WEIGHT:
        raise ValueError(f"CPN_SCORES: {name}={text} is not a weight; write it like {name}=1, from 0 to {MOST_WEIGHT:.0f}")
    return weight


def _convert(name: str, text: str, default: Any) -> Any:
    try:
        if isinstance(default, bool):
            return {"1": True, "true": True, "0": False, "false": False}[text.lower()]
        return type(default)(text)
    except (ArithmeticError, KeyError, ValueError):
        raise ValueError(f"{name}={text!r} is not a {type(default).__name__}") from None
