"""From Python to a snapshot: pure, no step runs and nothing is stored."""
