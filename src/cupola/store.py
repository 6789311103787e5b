"""The store's port: what every store can do, and the closed language in which it is asked.

Two halves: the *ledger*, which runs record by appending events, and the *catalogue*, which people define. What differs
between entities is data (`Kind`); what may be asked beyond one kind is a closed list of named questions. The port knows
neither its adapters nor its readers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, TypeVar

import msgspec

from cupola.entities.artifact import VersionRecord
from cupola.entities.run import StepRecord
from cupola.event import MapExpanded

if TYPE_CHECKING:
    from cupola.event import Event, RunSealed

T = TypeVar("T")
E = TypeVar("E")
Operator = Literal["eq", "ne", "in", "lt", "le", "gt", "ge", "contains", "starts"]
Value = str | int | float | bool | None | tuple[str | int | float, ...]


class Principal(msgspec.Struct, frozen=True):
    """Who asks. On a machine without a server there is one: the owner of the files, who may do everything."""

    name: str
    is_owner: bool = False


OWNER = Principal("owner", is_owner=True)


class Condition(msgspec.Struct, frozen=True):
    """`field operator value`; the fields of a kind stand in its `Kind`."""

    field: str
    op: Operator
    value: Value


class Has(msgspec.Struct, frozen=True):
    """There is a related row (`tag`, `metadata`, `output`, …) for which all conditions hold."""

    relation: str
    where: tuple[Condition, ...]


class Query(msgspec.Struct, frozen=True):
    """What to find, of one kind.

    Attributes:
        where: Conditions that must all hold.
        has: Related rows that must all exist.
        sort: Name of a declared sort of the kind, with a leading `-` for the reverse; the kind's first when empty.
        limit: Largest number of items of a page.
        cursor: `Page.next` of the page before; empty for the first.
    """

    where: tuple[Condition, ...] = ()
    has: tuple[Has, ...] = ()
    sort: str = ""
    limit: int = 20
    cursor: str = ""


class Page(msgspec.Struct, Generic[E], frozen=True):
    """Some items, and the cursor of those that follow; empty when there are none."""

    items: tuple[E, ...]
    next: str = ""


class Applied(msgspec.Struct, frozen=True):
    """What an append did: the last sequence number that the store now has, and the chained digest up to it."""

    head: int
    digest: bytes


class Lease(msgspec.Struct, frozen=True):
    """The right to drive something; `epoch` grows with every holder."""

    what: str
    holder: str
    epoch: int


class Delete(msgspec.Struct, frozen=True):
    """Take an entity away, with all that only it has."""

    kind: str
    id: str


class Update(msgspec.Struct, frozen=True):
    """Change what people may change of an entity: its tags and its metadata (a value of None takes a key away)."""

    kind: str
    id: str
    add_tags: tuple[str, ...] = ()
    remove_tags: tuple[str, ...] = ()
    metadata: dict[str, bytes | None] = {}


Change = Delete | Update


class CacheEntry(msgspec.Struct, frozen=True, gc=False):
    """The newest result for a cache key: who made it, when, how long it took, and its outputs."""

    base_key: str
    inputs_key: str
    run: str
    step: int
    made_at: float
    duration_s: float
    expires_at: float
    outputs: tuple[VersionRecord, ...]


class Question(msgspec.Struct, Generic[T], frozen=True):
    """A named question with an answer of type `T`."""


class FindCached(Question[dict[tuple[str, str], CacheEntry]], frozen=True):
    """The newest usable result for each base key, by `(base_key, inputs_key)`."""

    base_keys: tuple[str, ...]


class FindCachedExactly(Question[CacheEntry | None], frozen=True):
    """The newest usable result for exactly these keys."""

    base_key: str
    inputs_key: str


class ListInputs(Question[frozenset[int] | None], frozen=True):
    """Checksums (`digest.checksum`) of all inputs keys with results for a base key; None where they are too many."""

    base_key: str


ALL = 2**62
"""A position that is behind all."""


class StepsOf(Question[tuple[StepRecord, ...]], frozen=True):
    """The steps of a run that have a record, by position; only those from `first` on that stand before `below`."""

    run: str
    below: int = ALL
    first: int = 0


class CountChildren(Question[dict[int, dict[str, int]]], frozen=True):
    """How many children of each mapped step of a run are in which state, of those that have begun."""

    run: str


class ExpansionsOf(Question[tuple[MapExpanded, ...]], frozen=True):
    """The events that gave mapped steps of a run their children, in the order of the children."""

    run: str


class OutputsOf(Question[tuple[VersionRecord, ...]], frozen=True):
    """All artifact versions that a run made, or that one of its steps made, by step and place."""

    run: str
    step: int = -1


class SnapshotOf(Question[bytes], frozen=True):
    """The bytes of the snapshot with this id."""

    snapshot: str


class StepBefore(Question[StepRecord | None], frozen=True):
    """The newest earlier record of the same step of the same pipeline that has a result, for explanations."""

    pipeline: str
    name: str
    before: int


class ConsumersOf(Question[tuple[StepRecord, ...]], frozen=True):
    """The steps that read a value with this digest, newest first."""

    digest: str


class Store(Protocol):
    """What every store can do. All methods may raise `Unreachable`."""

    def append(
        self, run: str, epoch: int, first_seq: int, events: Sequence[bytes], *, decoded: Sequence[Event] = ()
    ) -> Applied:
        """Apply encoded events of a run in order; `decoded` are the same as objects, where the caller has them.

        What is known already is ignored when the chained digest agrees.

        Raises:
            Fenced: A later epoch wrote meanwhile.
            Diverged: What is known already differs.
            Conflict: There is a gap before `first_seq`.
        """
        ...

    def seal(self, run: str) -> RunSealed:
        """Return what the store gave a run whose events are all appended: its last event, for its journal."""
        ...

    def events(self, run: str, after: int) -> Iterator[Event]:
        """Yield the events of a run with a sequence number greater than `after`."""
        ...

    def lease(self, what: str, holder: str, ttl_s: float, after: int) -> Lease:
        """Take the lease if its epoch is still `after`; raises `Conflict` otherwise."""
        ...

    def get(self, kind: str, ref: str, *, who: Principal) -> Any:
        """Return the one entity that `ref` means: an id, a unique prefix of one, or a name.

        Raises:
            NotFound: Nothing is called like that.
            Ambiguous: Several are; the message lists them.
        """
        ...

    def find(self, kind: str, query: Query, *, who: Principal) -> Page[Any]:
        """Return one page of what matches."""
        ...

    def count(self, kind: str, query: Query, *, who: Principal, bound: int = 10_000) -> int:
        """Return how many match, counting no further than `bound`."""
        ...

    def write(self, changes: Sequence[Change], *, key: str, who: Principal) -> None:
        """Apply changes in one transaction; a `key` that was used before changes nothing."""
        ...

    def ask(self, question: Question[T], *, who: Principal) -> T:
        """Answer one of the named questions."""
        ...

    def close(self) -> None:
        """Give back what the store holds open."""
        ...
