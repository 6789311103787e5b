"""The nouns: options, runs, steps, artifacts, as immutable data."""
