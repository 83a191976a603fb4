"""Data: what vendors publish of accelerators and CPUs, and the names under which they are met."""
