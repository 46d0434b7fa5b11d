"""What the page of all runs shows: losses, the parent of a rerun, and advice."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the columns and the table."""
    op.add_column("runs", sa.Column("parent", sa.Text(), nullable=True))
    op.add_column("runs", sa.Column("advice", sa.Text(), nullable=True))
    op.create_table(
        "curves",
        sa.Column("run_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("part", sa.Text(), autoincrement=False, nullable=False),
        sa.Column("steps", sa.Text(), nullable=True),
        sa.Column("losses", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("run_id", "part"),
        sqlite_with_rowid=False,
    )
