"""How needs share a host: what is in use, whether one more fits, and whose turn it is. Pure.

A step that holds something may start a run whose steps need something too. What these hold counts as part of what the
step around them has, and while all of them wait, the step around them uses nothing: so two such steps never wait for
each other for ever.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from cupola.engine.capacity import Gpu
from cupola.entities.resources import Amounts

PATIENCE = 16
"""How many later needs may go before one that can't be met yet and that wants the same."""
_STALE_S = 2.0
"""A need whose driver hasn't asked for so long is busy or stopped; it keeps its place but holds nobody up."""
_ROUNDING = 1e-9


class Share(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What one step has or waits for.

    Attributes:
        number: Its place in the order in which needs came up, unique in a store.
        run, step: Whose it is.
        needs: How much of each kind: `cpu`, `memory` (bytes), `gpu`, and slots by name; no kind with nothing.
        gpu_type: Part of the model's name of the graphics processors; empty for any.
        gpus: Ids of the graphics processors that it has.
        is_held: Whether it has it; it waits otherwise.
        within: Number of the share that the step around its run has; 0 for none.
        asked_at: When its driver asked last, in seconds of the host's monotonic clock.
    """

    number: int
    run: str
    step: str
    needs: dict[str, float]
    gpu_type: str = ""
    gpus: tuple[str, ...] = ()
    is_held: bool = False
    within: int = 0
    asked_at: float = 0.0


def needed(amounts: Amounts) -> dict[str, float]:
    """Return what is needed of each kind, by name: `cpu`, `memory`, `gpu` and the named slots."""
    found = {"cpu": amounts.cpu, "memory": float(amounts.memory), "gpu": float(amounts.gpu or 0), **amounts.slots}
    return {kind: amount for kind, amount in found.items() if amount}


def in_use(shares: Sequence[Share]) -> dict[str, float]:
    """Return what is in use of each kind, by name."""
    if not any(share.within for share in shares):
        return _sum(share.needs for share in shares if share.is_held)
    inside = _by_outer(shares)
    return _sum(_with_inside(share, inside) for share in inside.get(0, ()) if share.is_held)


def lacking(need: Share, shares: Sequence[Share], capacity: Mapping[str, float]) -> list[str]:
    """Return the kinds of which too little is free for a need now."""
    then = in_use([*shares, msgspec.structs.replace(need, is_held=True)])
    return [kind for kind in need.needs if then.get(kind, 0.0) > capacity.get(kind, 0.0) + _ROUNDING]


def goes_first(need: Share, shares: Sequence[Share], capacity: Mapping[str, float], now: float) -> Share | None:
    """Return the need that came up earlier, waits, and would be delayed by this one once too often; None if none.

    What is needed within a share waits for nobody's turn: others may be waiting for that share.
    """
    if need.within and any(share.number == need.within and share.is_held for share in shares):
        return None
    then: dict[str, float] | None = None
    for other in shares:
        is_waiting = not other.is_held and abs(now - other.asked_at) < _STALE_S
        if not is_waiting or not other.number < need.number - PATIENCE:
            continue
        then = then if then is not None else in_use([*shares, msgspec.structs.replace(need, is_held=True)])
        for kind, amount in other.needs.items():
            if kind in need.needs and then.get(kind, 0.0) + amount > capacity.get(kind, 0.0) + _ROUNDING:
                return other
    return None


def choose_gpus(need: Share, shares: Sequence[Share], gpus: Sequence[Gpu]) -> tuple[Gpu, ...] | None:
    """Return free graphics processors for a need, those of the share around it first; None when too few are free."""
    count = int(need.needs.get("gpu", 0))
    if not count:
        return ()
    inside = _by_outer(shares)
    around = _around(need, shares)
    outer = {share.number for share in around}
    taken = {
        gpu
        for share in shares
        if share.is_held and share.number not in outer and not _is_lent(share, inside)
        for gpu in share.gpus
    }
    near = {gpu for share in around for gpu in share.gpus}
    free = [gpu for gpu in of_type(gpus, need.gpu_type) if gpu.id not in taken]
    free.sort(key=lambda gpu: gpu.id not in near)
    return tuple(free[:count]) if len(free) >= count else None


def of_type(gpus: Iterable[Gpu], wanted: str) -> list[Gpu]:
    """Return the graphics processors whose model has the wanted part; those of unknown model are taken for it."""
    return [gpu for gpu in gpus if not gpu.model or wanted.casefold() in gpu.model.casefold()]


def _by_outer(shares: Iterable[Share]) -> dict[int, list[Share]]:
    """Return shares by the number of the one around them, 0 where that is none that is held."""
    listed = list(shares)
    held = {share.number for share in listed if share.is_held}
    inside: dict[int, list[Share]] = {}
    for share in listed:
        inside.setdefault(share.within if share.within in held else 0, []).append(share)
    return inside


def _around(need: Share, shares: Iterable[Share]) -> list[Share]:
    held = {share.number: share for share in shares if share.is_held}
    found: list[Share] = []
    share = need
    while (share := held.pop(share.within, None)) is not None:
        found.append(share)
    return found


def _is_lent(share: Share, inside: Mapping[int, Sequence[Share]]) -> bool:
    """Tell whether a step only waits for steps that it started, all of which wait."""
    within = inside.get(share.number, ())
    return bool(within) and not any(one.is_held and not _is_lent(one, inside) for one in within)


def _with_inside(share: Share, inside: Mapping[int, Sequence[Share]]) -> dict[str, float]:
    if _is_lent(share, inside):
        return {}
    own = share.needs
    parts = _sum(_with_inside(one, inside) for one in inside.get(share.number, ()) if one.is_held)
    return {kind: max(own.get(kind, 0.0), parts.get(kind, 0.0)) for kind in {**own, **parts}}


def _sum(parts: Iterable[Mapping[str, float]]) -> dict[str, float]:
    total: dict[str, float] = {}
    for part in parts:
        for kind, amount in part.items():
            total[kind] = total.get(kind, 0.0) + amount
    return total
