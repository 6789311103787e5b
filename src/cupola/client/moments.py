"""Seconds since 1970 as dates with a zone, for views."""

from __future__ import annotations

import datetime

from cupola.ids import now


def local_time(at: float | None) -> datetime.datetime | None:
    """Return a time as an aware datetime in the local zone."""
    return None if at is None else datetime.datetime.fromtimestamp(at).astimezone()


def time_span(started_at: float | None, ended_at: float | None) -> datetime.timedelta | None:
    """Return how long something took, or has taken until now; None when it hasn't begun."""
    started = local_time(started_at)
    ended = local_time(now() if ended_at is None else ended_at)
    # The difference of the two times as they are shown, to the microsecond.
    return None if started is None or ended is None else max(datetime.timedelta(0), ended - started)
