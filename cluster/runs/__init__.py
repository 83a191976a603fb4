"""Runs as every backend has them: what an agent keeps and tells of one, and what a worker does for it."""
