"""Creates the table of mixed observations and deletes the earlier one, whose rows identify pictures."""

import sqlalchemy as sql
from alembic import op

revision = "r0002_mixed"
down_revision = "r0001_observations"

BEFORE, TABLE = "buckler_traffic_1", "buckler_traffic_2"


def upgrade() -> None:
    """Replace the table."""
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
        sql.Column("confidence", sql.Double, nullable=False),
        sql.Column("sketch", sql.LargeBinary, nullable=False),
    )
    op.create_index(f"ix_{TABLE}_moment", TABLE, ["moment"])
    if op.get_bind().dialect.name == "sqlite":
        op.execute("PRAGMA secure_delete = ON")  # otherwise the rows stay in free pages of the file
    op.drop_table(BEFORE)
