"""Alembic runs this for every upgrade; `buckler.state.database` supplies the connection and its transaction."""

from alembic import context

given = context.config.attributes
context.configure(connection=given["connection"], version_table=given["version_table"])
with context.begin_transaction():
    context.run_migrations()
