"""Benchmarks that anybody can repeat: networks that they start themselves, figures on standard output, no verdict."""
