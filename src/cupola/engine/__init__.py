"""Driving a run: what may be reused, what must run, in which order, and the one writer of its events."""
