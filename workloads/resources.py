"""Units and resource requests.

People write `1GiB`, `10m`, `5.00 CNY` and `18000 PFLOPS`; programs get bytes, seconds, Decimal and FLOP/s.
A quantity without its unit is refused, because a guessed unit is a wrong bill or a killed job. What is
written back parses to exactly the value it came from, so a stored spec means what the submitted one meant.
"""

from __future__ import annotations

import re
from decimal import ROUND_HALF_UP, Context, Decimal, InvalidOperation
from typing import Annotated, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from workloads.errors import UnitError, shown
from workloads.workers import WorkerRange, Workers

KIB, MIB, GIB, TIB = 1024, 1024**2, 1024**3, 1024**4
MEMORY_UNITS = {"B": 1, "KiB": KIB, "MiB": MIB, "GiB": GIB, "TiB": TIB,
                "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}  # fmt: skip
DURATION_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
FLOPS_UNITS = {"GFLOPS": 1e9, "TFLOPS": 1e12, "PFLOPS": 1e15, "EFLOPS": 1e18}
CURRENCIES = frozenset({"CNY", "USD", "EUR"})
MONEY_QUANTUM = Decimal("0.0001")

# Larger numbers fit no column of the store and no machine; they are slips of the pen.
MAX_MEMORY = 2**60
MAX_DURATION_S = 36_500 * 86_400.0
MAX_FLOPS = 1e27
MAX_MONEY = Decimal(10**15)

# Wide enough for every byte of 2**60 in GiB and for sums over thousands of lines; the process's own context may be narrower.
EXACT = Context(prec=60, rounding=ROUND_HALF_UP)

_NUMBER_UNIT = re.compile(r"\s*([0-9]{1,20}(?:\.[0-9]{1,30})?)\s*([A-Za-z]+)\s*")
_DURATION_PART = re.compile(r"([0-9]{1,20}(?:\.[0-9]{1,30})?)(ms|s|m|h|d)")
# 40 places hold what the largest prices come to over the largest gang, memory and time.
_MONEY = re.compile(r"\s*([0-9]{1,40}(?:\.[0-9]{1,4})?)\s+([A-Z]{3})\s*")


def parse_memory(text: str) -> int:
    """Bytes of `1GiB`, `512MiB`, `2GB`; part of a byte is dropped. Raises UnitError."""
    match = _NUMBER_UNIT.fullmatch(text)
    if not match or match[2] not in MEMORY_UNITS:
        raise UnitError(f"{shown(text)} is not an amount of memory; write a number and one of {', '.join(MEMORY_UNITS)}, like 1GiB")
    size = int(Decimal(match[1]) * MEMORY_UNITS[match[2]])
    if size > MAX_MEMORY:
        raise UnitError(f"{shown(text)} is more memory than the largest amount that cpn counts ({format_memory(MAX_MEMORY)})")
    return size


def format_memory(size: int) -> str:
    """Bytes as the largest binary unit that divides them exactly (parse_memory's inverse)."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if size and size % MEMORY_UNITS[unit] == 0:
            return f"{size // MEMORY_UNITS[unit]}{unit}"
    return f"{size}B"


def parse_duration(text: str) -> float:
    """Seconds of `10m`, `1h30m`, `250ms`. Raises UnitError."""
    stripped = text.strip()
    parts = _DURATION_PART.findall(stripped)
    if not parts or "".join(number + unit for number, unit in parts) != stripped:
        raise UnitError(f"{shown(text)} is not a duration; write numbers with ms, s, m, h or d, like 10m or 1h30m")
    seconds = float(sum(Decimal(number) * Decimal(str(DURATION_UNITS[unit])) for number, unit in parts))
    if seconds > MAX_DURATION_S:
        raise UnitError(f"{shown(text)} is longer than the longest duration that cpn counts ({format_duration(MAX_DURATION_S)})")
    return seconds


def format_grams(grams: float) -> str:
    """`1234.5` → `about 1.23 kg`: an amount of CO2, which is an estimate."""
    unit, size = next(((unit, size) for unit, size in (("t", 1e6), ("kg", 1e3), ("g", 1.0)) if grams >= size), ("mg", 1e-3))
    return f"about {grams / size:.3g} {unit}"


def format_duration(seconds: float) -> str:
    """Seconds in the form parse_duration reads, to the millisecond; for people."""
    left = round(seconds * 1000)
    parts = []
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)):
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def write_duration(seconds: float) -> str:
    """Seconds as text that parse_duration reads back to the very same number; for storage."""
    text = format_duration(seconds)
    return text if parse_duration(text) == seconds else f"{Decimal(repr(seconds)):f}s"


def parse_flops(text: str) -> float:
    """FLOP/s of `18000PFLOPS`, `14 EFLOPS`. Raises UnitError. The precision is a field of its own."""
    match = _NUMBER_UNIT.fullmatch(text)
    if not match or match[2] not in FLOPS_UNITS:
        raise UnitError(f"{shown(text)} is not computing power; write a number and one of {', '.join(FLOPS_UNITS)}, like 4500PFLOPS")
    flops = float(Decimal(match[1]) * Decimal(FLOPS_UNITS[match[2]]))
    if flops > MAX_FLOPS:
        raise UnitError(f"{shown(text)} is more computing power than cpn counts ({format_flops(MAX_FLOPS)})")
    return flops


def format_flops(flops: float) -> str:
    """FLOP/s with the largest unit that leaves at least 1, to four digits; for people."""
    unit = _flops_unit(flops)
    value = flops / FLOPS_UNITS[unit]
    return f"{value:.0f} {unit}" if value >= 10_000 else f"{value:.4g} {unit}"


def write_flops(flops: float) -> str:
    """FLOP/s as text that parse_flops reads back to the very same number; for storage."""
    unit = _flops_unit(flops)
    return f"{(Decimal(repr(flops)) / Decimal(FLOPS_UNITS[unit])).normalize():f} {unit}"


def _flops_unit(flops: float) -> str:
    return next((unit for unit in ("EFLOPS", "PFLOPS", "TFLOPS") if flops >= FLOPS_UNITS[unit]), "GFLOPS")


class Money(BaseModel):
    """An exact amount of one currency. Amounts of different currencies never mix.

    What people write (a price, a budget) is bounded by MAX_MONEY. What is computed from it (a line of a quote, a total)
    may be larger, and reads back by `read_back`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    amount: Decimal
    currency: str

    @classmethod
    def parse(cls, text: str) -> Money:
        """The amount in `5.00 CNY`, to 1/10000. Raises UnitError."""
        money = cls.read_back(text)
        if money.amount >= MAX_MONEY:
            raise UnitError(f"{shown(text)} is more money than cpn counts in one price or budget (less than {MAX_MONEY:,} of a currency)")
        return money

    @classmethod
    def read_back(cls, text: str) -> Money:
        """An amount that `str` wrote, however large a computation made it. Raises UnitError."""
        match = _MONEY.fullmatch(text)
        if not match or match[2] not in CURRENCIES:
            known = ", ".join(sorted(CURRENCIES))
            raise UnitError(f"{shown(text)} is not an amount of money; write it like 5.00 CNY (currencies: {known})")
        return cls(amount=Decimal(match[1]), currency=match[2])

    def __str__(self) -> str:
        text = f"{EXACT.quantize(self.amount, MONEY_QUANTUM):f}"
        whole, _, cents = text.partition(".")
        return f"{whole}.{cents[:2]}{cents[2:].rstrip('0')} {self.currency}"

    def __add__(self, other: Money) -> Money:
        if other.currency != self.currency:
            raise UnitError(f"cannot add {other.currency} to {self.currency}")
        return Money(amount=EXACT.add(self.amount, other.amount), currency=self.currency)

    def times(self, factor: Decimal | int | float) -> Money:
        """The amount times a number, rounded half up to 1/10000 of the currency."""
        try:
            amount = EXACT.quantize(EXACT.multiply(self.amount, Decimal(str(factor))), MONEY_QUANTUM)
        except InvalidOperation as error:
            raise UnitError(f"cannot multiply {self} by {factor!r}") from error
        return Money(amount=amount, currency=self.currency)


# The three classes mark numbers made by our own code, so that a bare number of a manifest is refused.
class _ByteCount(int):
    pass


class _Seconds(float):
    pass


class _FlopsCount(float):
    pass


def _read_memory(value: object) -> int:
    if isinstance(value, str):
        return _ByteCount(parse_memory(value))
    if isinstance(value, _ByteCount):
        return value
    raise UnitError(f'{shown(value)} has no unit; write it as text, like "1GiB"')


def _read_duration(value: object) -> float:
    if isinstance(value, str):
        return _Seconds(parse_duration(value))
    if isinstance(value, _Seconds):
        return value
    raise UnitError(f'{shown(value)} has no unit; write it as text, like "10m"')


def _read_money(value: object) -> object:
    if isinstance(value, str):
        return Money.parse(value)
    if isinstance(value, Money):
        return value
    raise UnitError(f'{shown(value)} is not an amount of money; write it as text, like "5.00 CNY"')


def _read_computed_money(value: object) -> object:
    return Money.read_back(value) if isinstance(value, str) else _read_money(value)


def _read_flops(value: object) -> float:
    if isinstance(value, str):
        return _FlopsCount(parse_flops(value))
    if isinstance(value, _FlopsCount):
        return value
    raise UnitError(f'{shown(value)} has no unit; write it as text, like "4500PFLOPS"')


MemoryBytes = Annotated[
    int, BeforeValidator(_read_memory), PlainSerializer(format_memory, return_type=str),
    WithJsonSchema({"type": "string", "examples": ["1GiB"], "description": "memory with its unit"}),
]  # fmt: skip
DurationSeconds = Annotated[
    float, BeforeValidator(_read_duration), PlainSerializer(write_duration, return_type=str),
    WithJsonSchema({"type": "string", "examples": ["10m"], "description": "duration with its unit"}),
]  # fmt: skip
MoneyAmount = Annotated[
    Money, BeforeValidator(_read_money), PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string", "examples": ["5.00 CNY"], "description": "amount and currency"}),
]  # fmt: skip
ComputedMoney = Annotated[
    Money, BeforeValidator(_read_computed_money), PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string", "examples": ["5.00 CNY"], "description": "amount and currency"}),
]  # fmt: skip
FlopsRate = Annotated[
    float, BeforeValidator(_read_flops), PlainSerializer(write_flops, return_type=str),
    WithJsonSchema({"type": "string", "examples": ["4500PFLOPS"], "description": "computing power"}),
]  # fmt: skip


Model = Annotated[str, Field(min_length=1, max_length=64, examples=["H200"])]
Precision = Literal["fp16", "tf32", "fp32", "fp64"]


class ModelChoice(BaseModel):
    """One accelerator model that a job may use, and how fast its work is there compared with the others; left out, it is learned."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    model: Model
    speed: float | None = Field(
        default=None, gt=0, le=1e6, allow_inf_nan=False, description="twice as fast is twice the number; left out, it is learned"
    )


class AcceleratorRequest(BaseModel):
    """Accelerators of one model, or of any one of several, per worker: whole ones, or a share of one."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    model: Model | None = Field(default=None, validate_default=False)
    any_of: tuple[ModelChoice, ...] = Field(
        default=(), strict=False, max_length=16, description="instead of model: one of these, chosen with the cluster"
    )
    count: int = Field(default=1, ge=1, le=1024)
    share: float | None = Field(default=None, examples=[0.25], description="part of one device, in thousandths; instead of count")
    precision: Precision | None = Field(default=None, description="by which ratings to compare models that no like job has run on")

    @field_validator("share")
    @classmethod
    def _part_of_one_device(cls, share: float | None, info: ValidationInfo) -> float | None:
        if share is None:
            return None
        thousandths = round(share * 1000) if 0 < share < 1 else 0
        if not 0 < thousandths < 1000 or abs(share * 1000 - thousandths) > 1e-6:
            raise ValueError("a share is 0.001 to 0.999 of one device, in whole thousandths; for whole devices give count")
        if info.data.get("count", 1) != 1:
            raise ValueError("a share is of one device; leave count out, or leave share out for whole devices")
        return thousandths / 1000

    @model_validator(mode="after")
    def _one_model_or_several(self) -> Self:
        models = [choice.model for choice in self.any_of]
        if (self.model is None) == (not self.any_of):
            raise ValueError("give either model, or any_of with the models that the job may use")
        if twice := next((model for model in models if models.count(model) > 1), None):
            raise ValueError(f"any_of names {twice} twice; give each model once")
        if self.model is not None and self.precision is not None:
            raise ValueError("precision compares the models of any_of; leave it out, or give any_of instead of model")
        return self

    @property
    def choices(self) -> tuple[ModelChoice, ...]:
        """The models that may be used, at least one, in the order of the manifest."""
        return self.any_of if self.model is None else (ModelChoice(model=self.model),)

    @property
    def learns(self) -> bool:
        """Whether the speed on some model is not declared."""
        return any(choice.speed is None for choice in self.any_of)

    @property
    def amount(self) -> int | float:
        """Devices, or the part of one."""
        return self.count if self.share is None else self.share


class Resources(BaseModel):
    """What one worker holds, and how many workers run together (a gang when more than one)."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    cpu: float = Field(default=1.0, gt=0, le=4096, allow_inf_nan=False, description="cores per worker")
    memory: MemoryBytes = Field(default_factory=lambda: GIB, gt=0, description="per worker", json_schema_extra={"default": "1GiB"})
    accelerator: AcceleratorRequest | None = None
    workers: Workers = 1

    @model_validator(mode="after")
    def _elastic_or_any_of(self) -> Self:
        if self.is_elastic and self.accelerator is not None and self.accelerator.any_of:
            raise ValueError("an elastic gang needs one accelerator model; give model instead of any_of, or a fixed number of workers")
        return self

    @property
    def fewest(self) -> int:
        """With how many workers it may start at least."""
        return self.workers.min if isinstance(self.workers, WorkerRange) else self.workers

    @property
    def most(self) -> int:
        """How many workers it takes at most."""
        return self.workers.max if isinstance(self.workers, WorkerRange) else self.workers

    @property
    def is_elastic(self) -> bool:
        """Whether it may start with fewer workers than it would take."""
        return self.fewest < self.most

    @property
    def is_resized(self) -> bool:
        """Whether the number of workers may change while it runs."""
        return self.is_elastic and isinstance(self.workers, WorkerRange) and self.workers.while_running == "resize"

    def with_workers(self, count: int) -> Resources:
        """The same with exactly so many workers."""
        return self.model_copy(update={"workers": count})

    def on(self, model: str) -> Resources:
        """The same with accelerators of just this model; without any, the same."""
        if self.accelerator is None or self.accelerator.model == model:
            return self
        asked = AcceleratorRequest(model=model, count=self.accelerator.count, share=self.accelerator.share)
        return self.model_copy(update={"accelerator": asked})
