"""Counting what steps need over all runs of one host that share a store, with no daemon.

A driver takes what a step needs all at once or not at all, and asks again later; `holders.py` is how drivers tell each
other what they have, `shares.py` decides, `capacity.py` knows the host. What a driver has is free the moment it dies.
One thread uses one `HostResources`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path

import msgspec

from cupola.engine import capacity as host
from cupola.engine.capacity import Capacity, Gpu
from cupola.engine.holders import Holders, read_books
from cupola.engine.shares import Share, choose_gpus, goes_first, lacking, needed, of_type
from cupola.entities.resources import Amounts
from cupola.errors import ConfigError, CupolaError
from cupola.suggest import nearest
from cupola.text import size

FOLDER = "resources"
WITHIN = "CUPOLA_WITHIN"
"""Tells runs that a step starts which share the step has: theirs is a part of it. Set by us, for us."""
_NAMED = 3
"""How many holders a text names."""


class Need(msgspec.Struct, frozen=True):
    """What a step of a run needs; run and step tell it from others."""

    run: str
    step: str
    amounts: Amounts


class Lease(msgspec.Struct, frozen=True):
    """What a step has until it is released, or its process dies.

    Attributes:
        number: Its number among those of the store; 0 when there was nothing to count.
        need: What it was taken for.
        gpus: The graphics processors that it has.
        name: Names it among those of all stores; empty when there was nothing to count.
    """

    number: int
    need: Need
    gpus: tuple[Gpu, ...] = ()
    name: str = ""

    def environment(self) -> dict[str, str]:
        """Return the variables that the step must run with, so that it sees its own graphics processors only.

        A step that says nothing of them is left alone; one that says `gpu=0` sees none. `ROCR_VISIBLE_DEVICES` stays
        as it is, since the indices of the others count among those that it leaves.
        """
        variables = {WITHIN: self.name} if self.name else {}
        if self.need.amounts.gpu is not None:
            ids = ",".join(gpu.id for gpu in self.gpus)
            variables |= {"CUDA_VISIBLE_DEVICES": ids or "-1", "HIP_VISIBLE_DEVICES": ids or "-1"}
        if any(gpu.by_bus for gpu in self.gpus):
            variables["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
        return variables


class Holding(msgspec.Struct, frozen=True):
    """Who has or waits for what: a step, its run, and the process that drives it.

    Attributes:
        run, step: Whose it is.
        pid, host: The driver's process; its id is that of its own container.
        needs: How much of each kind: `cpu`, `memory` (bytes), `gpu`, and slots by name.
        gpus: Ids of the graphics processors that it has.
        is_held: Whether the step has it; it waits otherwise.
    """

    run: str
    step: str
    pid: int
    host: str
    needs: dict[str, float]
    gpus: tuple[str, ...]
    is_held: bool


def read_need(resources: bytes, run: str, step: str) -> Need | None:
    """Return what `StepOptions.resources` asks for; None when that is nothing."""
    return Need(run, step, msgspec.msgpack.decode(resources, type=Amounts)) if resources else None


class HostResources:
    """What the steps of one driver have of the host; close it when the run is over."""

    def __init__(self, home: Path, root: Path | None = None) -> None:
        """Count for the store in `home`; `root` is the source root, whose project may declare named slots."""
        self._folder = home / FOLDER
        self._root = root
        self._holders = Holders(self._folder)
        self._process = os.getpid()
        number, _, folder = os.environ.get(WITHIN, "").partition(":")
        self._within = int(number) if number.isdigit() and folder == str(self._folder) else 0
        self._shares: dict[int, Share] = {}
        self._waiting: dict[tuple[str, str], int] = {}

    def check(self, need: Need) -> None:
        """Refuse what this host can never give.

        Raises:
            ConfigError: A slot is unknown, or an amount is more than there is.
        """
        self._refuse_impossible(need, needed(need.amounts))

    def try_take(self, need: Need) -> Lease | None:
        """Take what a step needs, all of it at once, or return None when that isn't free yet.

        Ask again when something was released, and every 100 ms: who asks keeps its place, and later needs that want
        the same may go first only a few times. `withdraw` what is no longer wanted.

        Raises:
            ConfigError: This host can never give it.
            Unreachable: The store's folder can't be written.
        """
        wanted = needed(need.amounts)
        self._refuse_impossible(need, wanted)
        if not wanted:
            return Lease(0, need)
        if os.getpid() != self._process:
            # A forked child has nothing of what its parent has.
            self._process, self._shares, self._waiting = os.getpid(), {}, {}
        with self._holders.alone() as is_alone:
            return self._decide(need, wanted) if is_alone else None

    def release(self, lease: Lease) -> None:
        """Give back what a step had; does nothing when called again."""
        if self._shares.pop(lease.number, None) is not None:
            self._give_back()

    def withdraw(self, need: Need) -> None:
        """Stop waiting."""
        number = self._waiting.pop((need.run, need.step), 0)
        if self._shares.pop(number, None) is not None:
            self._give_back()

    def waits_for(self, need: Need) -> str:
        """Return what a need waits for, for people: `gpu (held by run 0192…, step fit)`; empty when it is all free."""
        known = (share for book in read_books(self._folder) for share in book.shares)
        shares = sorted((one for one in known if (one.run, one.step) != (need.run, need.step)), key=_number)
        wanted = needed(need.amounts)
        share = self._share(self._waiting.get((need.run, need.step), 1 << 62), need, wanted)
        limits = self._limits(wanted)
        kinds = lacking(share, shares, limits)
        if not kinds and self._pick_gpus(share, shares) is None:
            kinds = ["gpu"]
        if kinds:
            return ", ".join(_held_by(kind, shares) for kind in kinds)
        first = goes_first(share, shares, limits, time.monotonic())
        return f"its turn (run {first.run}, step {first.step} came first)" if first else ""

    def capacity(self) -> Capacity:
        """Return what the host has; the first call asks the system."""
        slots = {name: amount for name, amount in self._slots.items() if name not in ("cpu", "memory")}
        memory = int(self._has("memory") or 0)
        return Capacity(cpu=self._has("cpu") or 0.0, memory=memory, gpus=self._gpus, slots=slots)

    def held(self) -> list[Holding]:
        """Return who has or waits for what, in the order in which it came up. Nothing is written."""
        return read_holdings(self._folder.parent)

    def close(self) -> None:
        """Give everything back."""
        if os.getpid() == self._process:
            self._holders.close()
        self._shares, self._waiting = {}, {}

    def _refuse_impossible(self, need: Need, wanted: Mapping[str, float]) -> None:
        for kind, amount in wanted.items():
            has = self._has(kind)
            if has is None:
                raise _unknown_slot(need, kind, self._slots)
            if amount > has:
                raise _too_much(need, kind, amount, has)
        model = need.amounts.gpu_type
        if model and len(of_type(self._gpus, model)) < (need.amounts.gpu or 0):
            raise _wrong_type(need, self._gpus)

    def _decide(self, need: Need, wanted: dict[str, float]) -> Lease | None:
        others = self._holders.read_others()
        key = need.run, need.step
        number = self._waiting.pop(key, 0) or self._holders.next_number([*others, *self._shares.values()])
        asked = self._share(number, need, wanted)
        gpus = self._choose(asked, [*others, *self._shares.values()])
        ids = tuple(gpu.id for gpu in gpus or ())
        self._shares[number] = msgspec.structs.replace(asked, gpus=ids, is_held=gpus is not None)
        try:
            self._holders.write(self._shares.values())
        except BaseException:
            # Also a signal, which may come when it is written already: what the caller doesn't get is not taken.
            del self._shares[number]
            with suppress(CupolaError):
                self._holders.write(self._shares.values())
            raise
        if gpus is None:
            self._waiting[key] = number
            return None
        return Lease(number, need, gpus, f"{number}:{self._folder}")

    def _share(self, number: int, need: Need, wanted: dict[str, float]) -> Share:
        return Share(
            number,
            need.run,
            need.step,
            wanted,
            need.amounts.gpu_type,
            within=self._within,
            asked_at=time.monotonic(),
        )

    def _choose(self, asked: Share, shares: list[Share]) -> tuple[Gpu, ...] | None:
        """Return the graphics processors for what was asked, none for a need without; None when it has to wait."""
        shares = [share for share in shares if share.number != asked.number]
        limits = self._limits(asked.needs)
        if lacking(asked, shares, limits) or goes_first(asked, shares, limits, asked.asked_at):
            return None
        return self._pick_gpus(asked, shares)

    def _pick_gpus(self, asked: Share, shares: list[Share]) -> tuple[Gpu, ...] | None:
        return choose_gpus(asked, shares, self._gpus) if "gpu" in asked.needs else ()

    def _limits(self, wanted: Iterable[str]) -> dict[str, float]:
        return {kind: self._has(kind) or 0.0 for kind in wanted}

    def _has(self, kind: str) -> float | None:
        """Return how much of a kind the host has; None for a slot that nobody declared."""
        if kind == "gpu":
            return float(len(self._gpus))
        return self._cpu_and_memory.get(kind) if kind in ("cpu", "memory") else self._slots.get(kind)

    @cached_property
    def _cpu_and_memory(self) -> dict[str, float]:
        return {"cpu": host.count_cpus(), "memory": float(host.count_memory())} | self._slots

    @cached_property
    def _slots(self) -> dict[str, float]:
        return host.read_slots(self._root)

    @cached_property
    def _gpus(self) -> tuple[Gpu, ...]:
        return host.find_gpus()

    def _give_back(self) -> None:
        if os.getpid() != self._process:
            return
        with self._holders.alone():
            # Also where the lock can't be had: what is given back takes nothing from others.
            self._holders.write(self._shares.values())


def read_holdings(home: Path) -> list[Holding]:
    """Return who has or waits for what in a store, in the order in which it came up. Nothing is written."""
    listed = [(share, book) for book in read_books(home / FOLDER) for share in book.shares]
    listed.sort(key=lambda pair: pair[0].number)
    return [
        Holding(share.run, share.step, book.pid, book.host, share.needs, share.gpus, share.is_held)
        for share, book in listed
    ]


def _number(share: Share) -> int:
    return share.number


def _held_by(kind: str, shares: list[Share]) -> str:
    holders = [share for share in shares if share.is_held and kind in share.needs]
    named = "; ".join(f"run {share.run}, step {share.step}" for share in holders[:_NAMED])
    more = f" and {len(holders) - _NAMED} more" if len(holders) > _NAMED else ""
    return f"{kind} (held by {named}{more})" if named else kind


def _unknown_slot(need: Need, kind: str, slots: Mapping[str, float]) -> ConfigError:
    known = sorted(slots.keys() - {"cpu", "memory"})
    guess = nearest(kind, [*known, "cpu", "memory", "gpu", "gpu_type"])
    hint = f"did you mean {guess!r}? " if guess else f"known are: {', '.join(known)}. " if known else ""
    return ConfigError(
        f"step {need.step!r} needs the slot {kind!r}, of which nobody said how many this host has",
        fix=f'{hint}CUPOLA_SLOTS="{kind}=1" says it, or `{kind}: 1` below `slots:` in .cupola/config.yaml',
    )


def _wrong_type(need: Need, gpus: Iterable[Gpu]) -> ConfigError:
    models = ", ".join(sorted({gpu.model for gpu in gpus}))
    return ConfigError(
        f"step {need.step!r} needs gpu_type={need.amounts.gpu_type!r}, gpu={need.amounts.gpu}; this host has {models}",
        fix="ask for another type, or run it on another host",
    )


def _too_much(need: Need, kind: str, amount: float, has: float) -> ConfigError:
    wanted, there = (size(int(amount)), size(int(has))) if kind == "memory" else (f"{amount:g}", f"{has:g}")
    ways = {"gpu": "CUPOLA_GPUS says how many, where they aren't found"}
    fix = ways.get(kind, f"CUPOLA_SLOTS says how many there are: {kind}={amount:g}")
    return ConfigError(
        f"step {need.step!r} needs {kind}={wanted}, more than this host will ever have: {there}",
        fix=f"ask for less or run it on another host; {fix}",
    )
