"""Creates the tables of runs and counters; takes over the rows of a SQLite file without Alembic."""

import sqlalchemy as sql
from alembic import op

revision = "r0001_runs"
down_revision = None

RUNS, COUNTERS = "buckler_watch_runs", "buckler_watch_counters"
# Old tables. MLflow also has a table `runs`: only a table with these columns is taken over.
OLD_RUNS, OLD_COUNTERS = "runs", "counters"
OLD_COLUMNS = {"id", "job", "started_at", "seconds", "outcome", "message"}


def upgrade() -> None:
    """Create the tables; move the rows of the old ones."""
    op.create_table(
        RUNS,
        sql.Column("id", sql.BigInteger().with_variant(sql.Integer(), "sqlite"), primary_key=True, autoincrement=True),
        sql.Column("job", sql.Text, nullable=False),
        sql.Column("started_at", sql.Double, nullable=False),
        sql.Column("seconds", sql.Double),
        sql.Column("outcome", sql.Text),
        sql.Column("message", sql.Text, nullable=False, server_default=""),
        sql.Column("attempt", sql.Integer, nullable=False, server_default="1"),
    )
    op.create_index(f"ix_{RUNS}_job_id", RUNS, ["job", "id"])
    op.create_table(
        COUNTERS,
        sql.Column("kind", sql.Text, primary_key=True),
        sql.Column("job", sql.Text, primary_key=True),
        sql.Column("what", sql.Text, primary_key=True),
        sql.Column("count", sql.BigInteger, nullable=False),
    )
    inspector = sql.inspect(op.get_bind())
    if op.get_bind().dialect.name == "sqlite" and inspector.has_table(OLD_RUNS):
        columns = {column["name"] for column in inspector.get_columns(OLD_RUNS)}
        if columns >= OLD_COLUMNS:
            _take_over("attempt" if "attempt" in columns else "1", counters=inspector.has_table(OLD_COUNTERS))


def _take_over(attempt: str, *, counters: bool) -> None:
    op.execute(
        f"INSERT INTO {RUNS} (id, job, started_at, seconds, outcome, message, attempt)"  # noqa: S608
        f" SELECT id, job, started_at, seconds, outcome, message, {attempt} FROM {OLD_RUNS}"
    )
    if counters:
        op.execute(f"INSERT INTO {COUNTERS} SELECT kind, job, what, count FROM {OLD_COUNTERS}")  # noqa: S608
        op.drop_table(OLD_COUNTERS)
    # The first versions had no counters: count the runs.
    op.execute(
        f"INSERT OR IGNORE INTO {COUNTERS} SELECT 'run', job, outcome, count(*) FROM {OLD_RUNS}"  # noqa: S608
        " WHERE outcome IS NOT NULL GROUP BY job, outcome"
    )
    op.execute(
        f"INSERT OR IGNORE INTO {COUNTERS} SELECT 'attempt', job, '', count(*) FROM {OLD_RUNS} GROUP BY job"  # noqa: S608
    )
    op.drop_table(OLD_RUNS)
