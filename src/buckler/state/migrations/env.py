"""Alembic runs this module for every upgrade; `buckler.state.database` passes the connection and the version table."""

from alembic import context

given = context.config.attributes
context.configure(connection=given["connection"], version_table=given["version_table"])
with context.begin_transaction():
    context.run_migrations()
