"""Notation: frozen dataclasses as plain JSON and back, to the bit, whatever fields they have.

Nothing here names a field: what a dataclass gains is written and read without a change, and what an older document does not
have keeps its default. Arrays keep their type and shape, and their bytes, little-endian, so that no number is rounded.
Only dataclasses and enums that the wanted one is declared with are ever made, so a document can bring in no code.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any, TypeVar, get_args, get_type_hints

import numpy as np

T = TypeVar("T")
# Kinds of NumPy's types that are numbers and nothing else.
NUMBERS = "biuf"


class NotationError(ValueError):
    """A document is not one that `noted` made of the wanted kind; says where, and what stands there."""


def noted(value: Any) -> Any:
    """A value as JSON: dataclasses, enums, arrays, tuples, lists, sets, mappings, text and numbers. TypeError for anything else."""
    if isinstance(value, Enum):
        return {"enum": type(value).__name__, "name": value.name}
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"float": str(value)}
    if isinstance(value, np.generic):
        return noted(value.item())
    if isinstance(value, np.ndarray):
        return _array(value)
    if is_dataclass(value) and not isinstance(value, type):
        return {"of": type(value).__name__, "fields": {item.name: noted(getattr(value, item.name)) for item in fields(value)}}
    if isinstance(value, tuple):
        return {"tuple": [noted(item) for item in value]}
    if isinstance(value, Mapping):
        return {"map": [[noted(key), noted(item)] for key, item in value.items()]}
    if isinstance(value, AbstractSet):
        return {"set": sorted((noted(item) for item in value), key=text_of)}
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray | memoryview):
        return {"list": [noted(item) for item in value]}
    raise TypeError(f"{type(value).__name__} has no notation")


def _array(value: np.ndarray[Any, np.dtype[Any]]) -> dict[str, Any]:
    if value.dtype.kind not in NUMBERS:
        raise TypeError(f"an array of {value.dtype} has no notation")
    plain = np.ascontiguousarray(value, dtype=value.dtype.newbyteorder("<"))
    return {"array": plain.dtype.str, "shape": list(value.shape), "data": base64.b64encode(plain.tobytes()).decode()}


def text_of(document: Any) -> str:
    """A document in the one way to write it, so that equal ones are equal bytes."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False)


def read(document: Any, kind: type[T]) -> T:
    """The value that `noted` made a document of. Raises NotationError for anything else."""
    value = _value(document, _known(kind), kind.__name__.lower())
    if not isinstance(value, kind):
        raise NotationError(f"{kind.__name__.lower()}: a {kind.__name__} belongs here")
    return value


def _value(document: Any, known: Mapping[str, type], path: str) -> Any:
    if document is None or isinstance(document, bool | int | float | str):
        return document
    if not isinstance(document, dict):
        raise NotationError(f"{path}: a {type(document).__name__} has no meaning here")
    try:
        return _structure(document, known, path)
    except NotationError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise NotationError(f"{path}: {type(error).__name__}: {error}") from error


def _structure(document: dict[str, Any], known: Mapping[str, type], path: str) -> Any:
    if "of" in document:
        return _dataclass(document, known, path)
    if "array" in document:
        return _read_array(document)
    if "enum" in document:
        return known[document["enum"]][document["name"]]  # type: ignore[index]
    if "float" in document:
        return float(document["float"])
    if "map" in document:
        return {_value(key, known, f"{path}.key"): _value(item, known, f"{path}[{key}]") for key, item in document["map"]}
    for name, made in (("tuple", tuple), ("list", list), ("set", frozenset)):
        if name in document:
            return made(_value(item, known, f"{path}[{place}]") for place, item in enumerate(document[name]))
    raise NotationError(f"{path}: {sorted(document)} has no meaning here")


def _dataclass(document: dict[str, Any], known: Mapping[str, type], path: str) -> Any:
    kind = known.get(document["of"])
    if kind is None or not is_dataclass(kind):
        raise NotationError(f"{path}: this version knows no {document['of']}")
    names, given = {item.name for item in fields(kind)}, document["fields"]
    if more := sorted(set(given) - names):
        raise NotationError(f"{path}: this version knows no field {', '.join(more)} of {document['of']}")
    return kind(**{name: _value(item, known, f"{path}.{name}") for name, item in given.items()})


def _read_array(document: dict[str, Any]) -> np.ndarray[Any, np.dtype[Any]]:
    kind = np.dtype(document["array"])
    if kind.kind not in NUMBERS:
        raise NotationError(f"an array of {kind} has no meaning here")
    data = np.frombuffer(base64.b64decode(document["data"], validate=True), dtype=kind)
    return data.reshape(document["shape"]).astype(kind.newbyteorder("="))


def _known(kind: type) -> Mapping[str, type]:
    """Dataclasses and enums that fields of `kind`, and of those, are declared with, by name."""
    found: dict[str, type] = {}
    left: list[type] = [kind]
    while left:
        one = left.pop()
        if one.__name__ not in found:
            found[one.__name__] = one
            if is_dataclass(one):
                left += [part for hint in get_type_hints(one).values() for part in _classes(hint)]
    return found


def _classes(hint: Any) -> Iterator[type]:
    if isinstance(hint, type) and (is_dataclass(hint) or issubclass(hint, Enum)):
        yield hint
    for part in get_args(hint):
        yield from _classes(part)
