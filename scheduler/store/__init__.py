"""Durable state: tables, guarded writes, and reads. The only package that knows SQLAlchemy."""
