"""Creates the table of observations; a database without Alembic already has it and keeps it."""

import sqlalchemy as sql
from alembic import op

revision = "r0001_observations"
down_revision = None

TABLE = "buckler_traffic_1"


def upgrade() -> None:
    """Create the table and its index."""
    op.create_table(
        TABLE,
        sql.Column("id", sql.BigInteger().with_variant(sql.Integer(), "sqlite"), primary_key=True, autoincrement=True),
        sql.Column("moment", sql.Double, nullable=False),
        sql.Column("digest", sql.String(80), nullable=False),
        *(sql.Column(name, sql.Integer) for name in ("width", "height", "size_bytes")),
        *(
            sql.Column(name, sql.Double, nullable=False)
            for name in ("brightness", "contrast", "red", "green", "blue", "saturation", "sharpness")
        ),
        sql.Column("label", sql.Text, nullable=False),
        sql.Column("decision", sql.String(16), nullable=False),
        sql.Column("score", sql.Double, nullable=False),
        sql.Column("probabilities", sql.Text, nullable=False),
        sql.Column("sketch", sql.LargeBinary, nullable=False),
        if_not_exists=True,
    )
    op.create_index(f"ix_{TABLE}_moment", TABLE, ["moment"], if_not_exists=True)
