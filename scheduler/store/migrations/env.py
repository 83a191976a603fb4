"""Alembic's entry point: run the steps on the connection that `migrate` hands over."""

from alembic import context

from scheduler.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    transaction_per_migration=False,
)
context.run_migrations()
