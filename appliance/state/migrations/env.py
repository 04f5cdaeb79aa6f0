"""How Alembic reaches the database: by the URL that `appliance.state.database.alembic_config` was given."""

from __future__ import annotations

from alembic import context

from appliance.state.database import open_database
from appliance.state.models import Base

engine = open_database(context.config.attributes["url"])
try:
    with engine.connect() as connection:
        context.configure(connection=connection, target_metadata=Base.metadata, render_as_batch=False)
        with context.begin_transaction():
            context.run_migrations()
        connection.commit()
finally:
    engine.dispose()
