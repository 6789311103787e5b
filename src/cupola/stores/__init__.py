"""The adapters of the store's port: SQLite on one machine."""
