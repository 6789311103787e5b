"""What people and programs ask of the record: the client, and runs, steps and artifacts as views of it."""
