"""What the appliance knows, in SQL: SQLite (WAL) beside the service, or PostgreSQL by URL."""
