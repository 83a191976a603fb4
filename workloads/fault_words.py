"""What pydantic finds wrong with a document, in words for people: what is wrong, and what to write instead.

This is the one place that knows pydantic's types of errors. A validator of our own says what to do by itself, and its words
are passed on; a type that is not listed here keeps pydantic's words, with the least that can be advised.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_NUMBER, _WHOLE, _TEXT = (
    "write a valid number, like 2.5",
    "write a whole number, like 2",
    "write a text, in quotes where it looks like a number",
)
_OBJECT, _LIST = "write fields with their values (an object)", "write a list of values"
# The words of a type may name what its error says of the limit, by the names that pydantic gives them.
_WORDS: Mapping[str, str] = {
    "missing": "this field is required; add it",
    "extra_forbidden": "there is no such field; correct its name or leave it out",
    "greater_than": "it must be greater than {gt}",
    "greater_than_equal": "it must be greater than or equal to {ge}",
    "less_than": "it must be less than {lt}",
    "less_than_equal": "it must be less than or equal to {le}",
    "multiple_of": "it must be a multiple of {multiple_of}",
    "finite_number": "it must be a finite number; write digits",
    "too_short": "it holds {actual_length}; give at least {min_length}",
    "too_long": "it holds too many; give at most {max_length}",
    "string_too_short": "it is too short; its length must be at least {min_length}",
    "string_too_long": "it is too long; its length must be at most {max_length}",
    "string_pattern_mismatch": "it does not fit the pattern {pattern}; write it so that it does",
    "string_type": _TEXT,
    "string_unicode": "write a text in UTF-8",
    "literal_error": "write {expected}",
    "enum": "write {expected}",
    "bool_type": "write true or false",
    "bool_parsing": "write true or false",
    "int_type": _WHOLE,
    "int_parsing": _WHOLE,
    "int_parsing_size": "it has too many digits; write a smaller number",
    "int_from_float": _WHOLE,
    "float_type": _NUMBER,
    "float_parsing": _NUMBER,
    "decimal_type": _NUMBER,
    "decimal_parsing": _NUMBER,
    "dict_type": _OBJECT,
    "model_type": _OBJECT,
    "model_attributes_type": _OBJECT,
    "list_type": _LIST,
    "tuple_type": _LIST,
    "set_type": _LIST,
    "frozen_set_type": _LIST,
    "json_invalid": "this is no JSON ({error}); send one JSON document",
    "json_type": "send one JSON document",
    "none_required": "leave it out, or write null",
    "date_type": "write a date, like 2026-12-01",
    "date_parsing": "write a date, like 2026-12-01",
    "date_from_datetime_parsing": "write a date, like 2026-12-01",
    "datetime_type": "write a time with its zone, like 2026-12-01T08:00:00+08:00",
    "datetime_parsing": "write a time with its zone, like 2026-12-01T08:00:00+08:00",
    "datetime_from_date_parsing": "write a time with its zone, like 2026-12-01T08:00:00+08:00",
    "timezone_aware": "add the time zone, like 2026-12-01T08:00:00+08:00",
    "union_tag_invalid": "{discriminator} is {tag!r}; write one of {expected_tags}",
    "union_tag_not_found": "add the field {discriminator}, which says what the others mean",
}
_OWN = "Value error, "
_LEAST = "; correct this value"


def words_of(fault: Mapping[str, Any]) -> str:
    """One of the faults that a ValidationError lists (`errors()`), in words with a remedy. Its place is told apart."""
    kind, said = fault["type"], str(fault["msg"])
    if kind in _WORDS:
        try:
            return _WORDS[kind].format_map({name: _short(value) for name, value in (fault.get("ctx") or {}).items()})
        except KeyError:
            # Another version of pydantic may tell the limit by another name.
            return said + _LEAST
    if kind == "value_error" or not said.startswith("Input should"):
        return said.removeprefix(_OWN)
    return said + _LEAST


def _short(value: Any) -> Any:
    """A limit as people write it: 1, not 1.0."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
