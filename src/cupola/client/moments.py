"""Seconds since 1970 as dates with a zone, for views."""

from __future__ import annotations

import datetime


def local_time(at: float | None) -> datetime.datetime | None:
    """Return a time as an aware datetime in the local zone."""
    return None if at is None else datetime.datetime.fromtimestamp(at).astimezone()


def time_span(seconds: float | None) -> datetime.timedelta | None:
    """Return a length of time."""
    return None if seconds is None else datetime.timedelta(seconds=seconds)
