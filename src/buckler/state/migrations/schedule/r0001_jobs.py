"""Creates APScheduler's table of jobs under Buckler's name, or renames that of a SQLite file without Alembic."""

import sqlalchemy as sql
from alembic import op

revision = "r0001_jobs"
down_revision = None

TABLE, OLD_TABLE = "buckler_watch_jobs", "apscheduler_jobs"


def upgrade() -> None:
    """Create or rename the table."""
    bind = op.get_bind()
    if bind.dialect.name == "sqlite" and sql.inspect(bind).has_table(OLD_TABLE):
        op.drop_index(f"ix_{OLD_TABLE}_next_run_time", OLD_TABLE, if_exists=True)
        op.rename_table(OLD_TABLE, TABLE)
    else:
        op.create_table(
            TABLE,
            sql.Column("id", sql.Unicode(191), primary_key=True),
            sql.Column("next_run_time", sql.Float(25)),
            sql.Column("job_state", sql.LargeBinary, nullable=False),
        )
    op.create_index(f"ix_{TABLE}_next_run_time", TABLE, ["next_run_time"])
