"""Errors of benchmarks."""

from __future__ import annotations


class BenchError(Exception):
    """A benchmark could not be carried out; the message says what went wrong."""
