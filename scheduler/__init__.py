"""The decision: engine, lifecycle, store, and the cycle that joins them."""
