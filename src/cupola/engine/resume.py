"""What a run had reached when its driver ended, read from its journal: where another driver goes on.

Decided by records alone: finished is what has a `StepFinished` or `StepCached` whose outputs still exist.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from cupola.artifacts.blobs import Blobs
from cupola.engine.expanded import Expanded
from cupola.engine.fan import is_there
from cupola.engine.history import Past, read_past
from cupola.engine.rerun import Calls
from cupola.entities.artifact import Manifest
from cupola.entities.run import RunStatus
from cupola.errors import Damaged
from cupola.event import (
    Event,
    MapExpanded,
    RunFinished,
    RunLost,
    RunResumed,
    RunStarted,
    StepCached,
    StepFailed,
    StepFinished,
    StepRetrying,
    StepStarted,
    decode_event,
)
from cupola.journal import JournalReader, epochs
from cupola.snapshot import Snapshot, decode_snapshot
from cupola.store import OWNER, CacheEntry, OutputsOf, SnapshotOf, Store

Outputs = tuple[tuple[str, Manifest], ...]


class Answer(msgspec.Struct, frozen=True):
    """An answer to what a dynamic pipeline asked: a value, or a text that stands for one, and who gives it."""

    value: object
    by: str


class Resumption(msgspec.Struct, frozen=True, kw_only=True):
    """How a run is to go on.

    Attributes:
        by_force: Whether it is taken from a driver that lives.
        workers: How many worker processes it may have; 0 for none, None when nobody says.
        answer: What somebody answers to the question that it waits with.
    """

    by_force: bool = False
    workers: int | None = None
    answer: Answer | None = None


class Reached(msgspec.Struct, frozen=True, kw_only=True):
    """What a run had reached.

    Attributes:
        started: Its first event.
        snapshot: The snapshot that it ran last.
        done: The outputs of each finished step, by position.
        gone: Steps that had finished and whose outputs are missing or damaged.
        over: Children that failed or never ran and whose mapped step is finished without them.
        crashed: Steps that ran in a driver's own process when a crash ended it.
        attempts: How many attempts each step had that has begun.
        expansions: The maps that have their children, in order.
        past: What a dynamic pipeline did.
        head, epoch: Sequence number of the last event, and the number of the last journal.
        is_complete: Whether the run has ended well.
    """

    started: RunStarted
    snapshot: Snapshot
    done: Mapping[int, Outputs]
    gone: tuple[int, ...]
    over: tuple[int, ...]
    crashed: frozenset[int]
    attempts: Mapping[int, int]
    expansions: tuple[MapExpanded, ...]
    past: Past
    head: int
    epoch: int
    is_complete: bool


class Given(msgspec.Struct, frozen=True, kw_only=True):
    """What a driver is given of what happened before.

    Attributes:
        done: Outputs of the steps that finished in this very run, by position.
        attempts: How many attempts steps of this run had.
        kept: Results of an earlier run that stand for steps of this one.
        kept_children: Those that stand for children, by their mapped step and number.
        forced: Steps that run although the cache may have a result; of a mapped one all children.
        over: Children of this run that failed or never ran and whose mapped step is finished without them.
        crashed: Steps of this run that ran in a driver's own process when a crash ended it: next time they have one of
            their own.
        expansions: The mapped steps of this run that have their children, in the order in which they got them.
        checkpoints_of: Id of an earlier run from whose checkpoints steps go on.
        past: What a dynamic pipeline did in this run.
        answer: What a person answers to the question that it waits with.
        calls: Calls of an earlier dynamic run whose results stand for equal ones of this.
        first: Name of the call of a dynamic pipeline from which on all that follows from it runs anew.
    """

    done: Mapping[int, Outputs] = {}
    attempts: Mapping[int, int] = {}
    kept: Mapping[int, CacheEntry] = {}
    kept_children: Mapping[int, Mapping[int, CacheEntry]] = {}
    forced: frozenset[int] = frozenset()
    over: tuple[int, ...] = ()
    crashed: frozenset[int] = frozenset()
    expansions: tuple[MapExpanded, ...] = ()
    checkpoints_of: str = ""
    past: Past = Past()
    answer: Answer | None = None
    calls: Calls = {}
    first: str = ""


def read_reached(folder: Path, store: Store, blobs: Blobs) -> Reached:
    """Read what the run in a folder has reached; its lock must be the caller's.

    Raises:
        Damaged: The journal holds no beginning of a run, or what can't be read.
    """
    # Also a journal that holds nothing, since its driver died before its first event, is of an epoch that is over.
    epoch = max(epochs(folder), default=0)
    head, events = 0, list[Event]()
    for frame in JournalReader(folder).read():
        head = frame.seq
        try:
            events.append(decode_event(frame.event))
        except msgspec.DecodeError as error:
            raise Damaged(
                f"event {head} of the run can't be read: {error}",
                where=str(folder),
                fix="a newer Cupola may have written it; `cupola doctor store` checks it",
            ) from error
    if not events or not isinstance(events[0], RunStarted):
        raise Damaged("the journal doesn't begin with the start of a run", where=str(folder), fix="start the run anew")
    return _add_up(events, store, blobs, head, epoch)


def _add_up(events: list[Event], store: Store, blobs: Blobs, head: int, epoch: int) -> Reached:
    started = events[0]
    assert isinstance(started, RunStarted)
    snapshot = started.snapshot
    finished: dict[int, StepFinished | StepCached] = {}
    attempts: dict[int, int] = {}
    expansions: dict[int, MapExpanded] = {}
    is_complete = False
    for event in events:
        match event:
            case StepStarted():
                attempts[event.step] = event.attempt
            case StepFinished() | StepCached():
                finished[event.step] = event
            case MapExpanded():
                expansions[event.step] = event
            case RunFinished():
                is_complete = event.status is RunStatus.COMPLETED
            case RunResumed():
                is_complete = False
                snapshot = event.snapshot or snapshot
                for position in event.again:
                    finished.pop(position, None)
            case _:
                pass
    ran = decode_snapshot(store.ask(SnapshotOf(snapshot), who=OWNER))
    past = read_past(events) if ran.dynamic else Past()
    added = tuple([addition.spec for addition in past.additions.values()])
    expanded = Expanded(
        msgspec.structs.replace(ran, steps=ran.steps + added) if added else ran, tuple(expansions.values())
    )
    done: dict[int, Outputs] = {}
    for position, event in finished.items():
        outputs = _outputs(event, store)
        declared = () if expanded.is_mapped(position) else expanded.owner(position).outputs
        if len(outputs) >= len(declared) and _exist(outputs, blobs):
            done[position] = outputs
    over: list[int] = []
    for position, children in expanded.children.items():
        if any(child in finished and child not in done for child in children):
            done.pop(position, None)
        if position in done:
            over += [child for child in children if child not in done]
    return Reached(
        started=started,
        snapshot=ran,
        done=done,
        gone=tuple(sorted(finished.keys() - done.keys())),
        over=tuple(sorted(over)),
        crashed=_crashed(events),
        attempts=attempts,
        expansions=tuple(expansions.values()),
        past=past,
        head=head,
        epoch=epoch,
        is_complete=is_complete,
    )


def _crashed(events: list[Event]) -> frozenset[int]:
    """Return the steps that ran in a driver's own process when a crash ended it; one of them may be its cause."""
    running: set[int] = set()
    found: set[int] = set()
    for event in events:
        match event:
            case StepStarted(worker=0):
                running.add(event.step)
            case StepFinished() | StepFailed() | StepRetrying():
                running.discard(event.step)
            case RunLost():
                found |= running if event.signal else set()
                running.clear()
            case _:
                pass
    return frozenset(found)


def _outputs(event: StepFinished | StepCached, store: Store) -> Outputs:
    """Return the outputs of a finished step; none when those it was cached from are not known any more."""
    if isinstance(event, StepFinished):
        return tuple([(record.name, record.manifest) for record in event.outputs if not record.saved])
    versions = store.ask(OutputsOf(event.from_run, event.from_step), who=OWNER)
    return tuple([(version.output, version.manifest) for version in versions if not version.saved])


def _exist(outputs: Outputs, blobs: Blobs) -> bool:
    return all(is_there(manifest, blobs) for _name, manifest in outputs)
