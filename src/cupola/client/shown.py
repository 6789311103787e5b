"""What all views share: a page as text and HTML, times, and decoded values."""

from __future__ import annotations

import datetime
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from cupola import client, values
from cupola.client.names import Named
from cupola.entities.run import AttemptRecord, Failure, RunRecord, StepRecord
from cupola.errors import NotFound
from cupola.ids import now
from cupola.snapshot import Snapshot

if TYPE_CHECKING:
    from cupola.client.page import Page

T = TypeVar("T")


class Shown(ABC):
    """What has a page: text for a terminal, HTML for a notebook."""

    __slots__ = ()

    @abstractmethod
    def page(self) -> Page:
        """Return what is worth saying, as data."""

    def __str__(self) -> str:
        return client.page.render_text(self.page()).rstrip("\n")

    def _repr_html_(self) -> str:
        return client.page.render_html(self.page())


class Ran(Shown):
    """What ran: a run or a step."""

    __slots__ = ()

    @abstractmethod
    def _now(self) -> RunRecord | StepRecord:
        """Return the record that holds now."""

    @property
    def started_at(self) -> datetime.datetime | None:
        """When it began; None when it hasn't."""
        return local_time(self._now().started_at)

    @property
    def ended_at(self) -> datetime.datetime | None:
        """When it was over; None when it isn't."""
        return local_time(self._now().ended_at)

    @property
    def duration(self) -> datetime.timedelta | None:
        """How long it took, or has taken so far; None when it hasn't begun."""
        record = self._now()
        return time_span(record.started_at, record.ended_at)

    @property
    def error(self) -> Failure | None:
        """Why it failed; `str()` of it is the exception's class and text."""
        return self._now().failure

    @property
    def metadata(self) -> dict[str, Any]:
        """What was logged with `log_metadata`, by key."""
        return decoded(self._now().metadata)

    @property
    def tags(self) -> list[str]:
        """The tags."""
        return list(self._now().tags)

    @property
    def warnings(self) -> list[str]:
        """What a person should know of it."""
        return list(self._now().warnings)


class Attempt(msgspec.Struct, frozen=True):
    """One attempt of a step; `error` is None when it went well, `ended_at` is None while it runs."""

    number: int
    started_at: datetime.datetime | None
    ended_at: datetime.datetime | None
    duration: datetime.timedelta | None
    error: Failure | None


class SnapshotView(msgspec.Struct, frozen=True):
    """The graph of a run: its `id` is the digest of `data`, its canonical bytes; `graph` is what they hold."""

    id: str
    data: bytes
    graph: Snapshot


def local_time(at: float | None) -> datetime.datetime | None:
    """Return a time as an aware datetime in the local zone."""
    return None if at is None else datetime.datetime.fromtimestamp(at).astimezone()


def time_span(started_at: float | None, ended_at: float | None) -> datetime.timedelta | None:
    """Return how long something took, or has taken until now; None when it hasn't begun."""
    started = local_time(started_at)
    ended = local_time(now() if ended_at is None else ended_at)
    # The difference of the two times as they are shown, to the microsecond.
    return None if started is None or ended is None else max(datetime.timedelta(0), ended - started)


def show_attempt(record: AttemptRecord) -> Attempt:
    """Return an attempt for people."""
    return Attempt(
        number=record.number,
        started_at=local_time(record.started_at),
        ended_at=local_time(record.ended_at),
        duration=time_span(record.started_at, record.ended_at),
        error=record.failure,
    )


def decoded(encoded: Mapping[str, bytes]) -> dict[str, Any]:
    """Return values by name from their encoding."""
    return {name: values.decode(data) for name, data in encoded.items()}


def only_output(outputs: Named[T], what: str, state: str) -> T:
    """Return the one output there is.

    Raises:
        NotFound: There is none, or more than one; the message lists them.
    """
    names = list(outputs)
    if len(names) == 1:
        return outputs[names[0]]
    if not names:
        raise NotFound(f"{what} has no output", fix=f"it is {state}; what returns nothing puts nothing out")
    raise NotFound(
        f"{what} has {len(names)} outputs: {', '.join(names)}", fix=f"take one by name: .outputs[{names[0]!r}]"
    )
