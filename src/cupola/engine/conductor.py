"""Conducting the calls of a dynamic pipeline: each becomes a step of the run once its inputs are there.

The function's thread, or whichever of its threads waits for a call, moves the driver on meanwhile. In a resumed run
calls that are made again get what they made before.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from cupola import values
from cupola.artifacts.blobs import Blobs
from cupola.compiler.dynamic import Calls, Program, is_edited, key_of, replaced
from cupola.compiler.nodes import Node, StepDefinition
from cupola.compiler.trace import Trace, grouped, hidden
from cupola.engine.additions import Additions
from cupola.engine.fanning import futures_of, make_nodes
from cupola.engine.futures import Call, Future
from cupola.engine.history import Entry, History
from cupola.engine.interrupts import LOOK_EVERY_S, Interrupts
from cupola.engine.questions import Questions
from cupola.engine.turns import Turns
from cupola.engine.wiring import content_of, outputs_read, placed
from cupola.entities.artifact import Manifest
from cupola.entities.run import Failure
from cupola.errors import CompileError, CupolaError, StepFailed
from cupola.event import FailureSeen, PipelineReturned, ValueRecorded
from cupola.failures import describe_failure
from cupola.ids import now
from cupola.snapshot import RunOutput, StepSpec, encode_outputs


class Conductor:
    """Carries out the calls of one dynamic pipeline.

    The threads of the pipeline function call `conduct`, `wait` and `see`, one at a time; the driver calls `step_done`
    and `step_failed` from inside of them.

    Args:
        program: The pipeline.
        go_on: Lets the driver make one move, waiting for at most so many seconds; tells whether anything is left to do.
        additions: Takes the steps.
        history: The calls of earlier drives.
        questions: What it asks people.
        interrupts: What signals asked for.
        blobs: Where values are.
    """

    def __init__(
        self,
        program: Program,
        go_on: Callable[[float], bool],
        additions: Additions,
        history: History,
        questions: Questions,
        interrupts: Interrupts,
        blobs: Blobs,
    ) -> None:
        self.blobs = blobs
        self._go_on = go_on
        self._additions = additions
        self._calls = Calls(program)
        self._history = history
        self._questions = questions
        self._interrupts = interrupts
        self._turns = Turns()
        self._moved = threading.Condition()
        self._is_moving = False
        self._made: list[Call] = []
        self._open: dict[int, Call] = {}
        self._names = set(history.names)
        self._edited: list[str] = []
        self._is_over = False
        self._calls.restore(entry.addition for entry in history.unclaimed())

    def conduct(self, node: Node, waits: bool) -> Any:
        """Carry out a call; wait for its end, or return at once.

        Raises:
            CompileError: The call is wrong.
            StepFailed: The step failed.
        """
        if self._is_moving:
            self._interrupts.wake()  # the thread that waits for workers gives way
        with self._turns:
            if self._is_over:
                raise CompileError(
                    f"step {node.name!r} was called after its pipeline function had ended",
                    where=node.place,
                    fix="wait for the threads that call steps before the function returns",
                )
            self._calls.check(node)
            call = self._begin(node, is_apart=not waits)
            if not waits:
                self._move_on(0.0)
        self._heed()
        future = Future[Any](self, call, node.outputs)
        if not waits:
            return future
        self.wait([call], None, for_all=True)
        if call.failure is not None:
            raise self.see(call)
        return grouped(node, future.parts or [future])

    def conduct_map(
        self, trace: Trace, step: StepDefinition, kind: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        """Carry out the calls that a step is mapped to; return their outputs at once.

        Raises:
            CompileError: They are wrong.
            StepFailed: A step that made one of the lists failed.
        """
        nodes = make_nodes(trace, step, kind, args, kwargs, self)
        if self._is_moving:
            self._interrupts.wake()
        with self._turns:
            for node in nodes:
                self._calls.check(node)
            # All stand in the journal before the first one starts.
            calls = [self._begin(node, is_apart=True) for node in nodes]
            self._move_on(0.0)
        self._heed()
        return futures_of(self, step, calls, trace)

    def wait(self, calls: Sequence[Call], timeout_s: float | None, *, for_all: bool) -> bool:
        """Carry calls out until one of some, or all of them, are over; tell whether they are when the time is up."""
        is_enough = all if for_all else any
        return self._wait(lambda: is_enough(call.is_over for call in calls), timeout_s)

    def _wait(self, is_enough: Callable[[], bool], timeout_s: float | None) -> bool:
        """Wait for something: one of the threads that wait moves the driver on, the others look when it has."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while not is_enough():
            left_s = LOOK_EVERY_S if deadline is None else min(LOOK_EVERY_S, deadline - time.monotonic())
            with self._moved:
                is_mine = not self._is_moving
                if is_mine:
                    self._is_moving = True
                else:
                    self._moved.wait(max(0.0, left_s))
            if is_mine:
                try:
                    with self._turns:
                        is_moving = self._move_on(max(0.0, left_s))
                        assert is_moving or not self._open, "a call is open, and nothing goes on"
                finally:
                    with self._moved:
                        self._is_moving = False
                        self._moved.notify_all()
            self._heed()
            if left_s <= 0:
                return is_enough()
        return True

    def see(self, call: Call) -> StepFailed:
        """Return the error of a call that failed, and note that the pipeline knows of it."""
        assert call.failure is not None
        with self._turns:
            known: Call | None = call
            while known is not None and not known.is_seen:
                if known.position >= 0:
                    self._additions.record(FailureSeen(now(), known.position))
                known.is_seen = True
                known = known.cause
        name = call.node.name
        error = StepFailed(f"step {name!r} failed: {call.failure}", where=call.failure.where)
        error.step = name
        error.__cause__ = call.error
        return error

    def recall(self, kind: str, make: Callable[[], Any]) -> Any:
        """Return a value that was recorded before, or record a new one."""
        with self._turns:
            known = self._history.recall(kind)
            if known is not None:
                return values.decode(known)
            made = make()
            self._additions.record(ValueRecorded(now(), kind, values.encode(made)))
            return made

    def ask(self, question: str, schema: Any, timeout_s: float | None) -> Any:
        """Return what a person answers.

        Raises:
            Paused: Nobody has, yet.
            TimeoutError: Nobody has in time.
        """
        with self._turns:
            return self._questions.ask(question, schema, timeout_s)

    def end(self, outputs: Iterable[RunOutput]) -> None:
        """Wait for all calls that go on, and record what the function returned.

        Raises:
            StepFailed: A step failed, and the pipeline didn't look.
        """
        self._wait(lambda: not self._open, None)
        with self._turns:
            for call in self._made:
                if call.failure is not None and not call.is_seen:
                    raise self.see(call)
            found = tuple([RunOutput(output.name, placed(output.source, self._made)) for output in outputs])
            self._additions.record(PipelineReturned(now(), encode_outputs(found)))

    def close(self, *, is_paused: bool) -> None:
        """Take no more calls, and say what of the past didn't come again."""
        with self._turns:
            self._is_over = True
            if is_paused:
                return
            if self._edited:
                self._additions.warn(f"edited since they finished, and kept as they are: {', '.join(self._edited)}")
            if left := [entry.addition.spec.name for entry in self._history.unclaimed()]:
                self._additions.warn(f"called before the run was resumed, and not any more: {', '.join(left)}")

    def find(self, error: BaseException) -> Call | None:
        """Return the failed call that an error of the pipeline function is about, or None for one of its own."""
        if not isinstance(error, StepFailed):
            return None
        found = [call for call in self._made if call.is_seen and call.node.name == error.step]
        call = found[-1] if found else None
        while call is not None and call.cause is not None:
            call = call.cause
        return call

    # The driver's side.

    def step_done(self, position: int, outputs: Iterable[tuple[str, Manifest]]) -> None:
        """Take note that a step is done."""
        call = self._open.pop(position, None)
        if call is not None:
            call.outputs = dict(outputs)
            self._end(call)

    def step_failed(self, position: int, failure: Failure, error: BaseException | None) -> None:
        """Take note that a step ended without outputs."""
        call = self._open.pop(position, None)
        if call is not None:
            call.failure, call.error = failure, error
            self._end(call)

    # Calls.

    def _begin(self, node: Node, *, is_apart: bool) -> Call:
        call = Call(node, is_apart=is_apart)
        # A trace counts the calls as this list does.
        assert node.position == len(self._made)
        self._made.append(call)
        read = [position for position, _output in outputs_read(node.inputs.values())]
        needed = {position: self._made[position] for position in (*read, *node.after)}
        failed = next((one for one in needed.values() if one.failure is not None), None)
        if failed is not None:
            self._give_up(call, failed)
            return call
        for one in needed.values():
            if not one.is_over:
                call.waits += 1
                one.followers.append(call)
        if not call.waits:
            self._settle(call)
        return call

    def _settle(self, call: Call) -> None:
        """Give a call, whose inputs are there, its place in the graph: the one it had, or a new one."""
        node = call.node
        key = key_of(node, [(name, content_of(source, self._made)) for name, source in node.inputs.items()])
        entry, number = self._history.claim(key)
        node.name = entry.addition.spec.name if entry is not None else self._free(node)
        settled = msgspec.structs.replace(
            node,
            inputs={name: placed(source, self._made) for name, source in node.inputs.items()},
            after=tuple(sorted(self._made[position].position for position in node.after)),
        )
        addition, live = self._calls.compile(settled, key, number)
        read = [(self._made[position], output) for position, output in outputs_read(node.inputs.values())]
        if items := tuple([(made.position, output, made.outputs[output]) for made, output in read if "[" in output]):
            addition = msgspec.structs.replace(addition, items=items)
        if entry is not None and self._is_settled(call, entry, addition.spec):
            return
        for made, output in read:
            self._additions.lend(made.position, output, made.outputs[output])
        if entry is None:
            call.position = self._additions.add(addition, live, is_apart=call.is_apart)
        else:
            call.position = entry.position
            self._additions.take_up(entry.position, replaced(entry.addition, addition), live, is_apart=call.is_apart)
        self._open[call.position] = call

    def _is_settled(self, call: Call, entry: Entry, spec: StepSpec) -> bool:
        """Give a call what its record says became of it; tell whether it says so."""
        if entry.outputs is None and entry.failure is None:
            return False
        call.position = entry.position
        if entry.outputs is not None:
            call.outputs = dict(entry.outputs)
            if is_edited(entry.addition.spec, spec):
                self._edited.append(spec.name)
        else:
            call.failure, call.is_seen = entry.failure, True
        self._end(call)
        return True

    def _end(self, call: Call) -> None:
        """Note that a call is over, and begin those that waited for it."""
        call.is_over = True
        followers, call.followers = call.followers, []
        for follower in followers:
            follower.waits -= 1
            if follower.is_over:
                continue
            if call.failure is not None:
                self._give_up(follower, call)
            elif not follower.waits:
                self._settle_later(follower)

    def _settle_later(self, call: Call) -> None:
        """Settle a call that nobody waits in: what is wrong with it, its future says."""
        try:
            self._settle(call)
        except CupolaError as error:
            call.failure, call.error = describe_failure(error, None), error
            self._end(call)

    def _give_up(self, call: Call, needed: Call) -> None:
        what = f"it needs step {needed.node.name!r}, which failed: {needed.failure}"
        call.failure, call.error, call.cause = Failure("Skipped", what), needed.error, needed
        self._end(call)

    def _free(self, node: Node) -> str:
        """Return the name of a new call: its own, or the next one that no call of an earlier drive has."""
        free, number = node.name, 1
        nested, slash, _ = node.name.rpartition("/")
        while free in self._names:
            number += 1
            free = f"{nested}{slash}{node.definition.label or node.definition.name}_{number}"
        self._names.add(free)
        return free

    def _move_on(self, patience_s: float) -> bool:
        """Let the driver make a move, out of sight of the pipeline function."""
        with hidden(), self._interrupts.noting():
            return self._go_on(0.0 if self._turns.is_wanted() else patience_s)

    def _heed(self) -> None:
        """Raise what a signal asks for."""
        if self._interrupts.signal:
            raise self._interrupts.exception()
