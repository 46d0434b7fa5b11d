"""What Alembic runs: the migrations, on the connection and in the transaction of the caller."""

from alembic import context

from hpctrain.index.tables import metadata

if hasattr(context, "config"):  # Alembic runs it; it is not merely imported
    context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
    context.run_migrations()
