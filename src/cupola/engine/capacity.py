"""What this host has for steps: processors and memory within the limits of its container, graphics processors, slots.

Asks the system and the environment; imports and changes nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

import msgspec

from cupola.compiler.written import Fields, Text
from cupola.compiler.yaml_tree import read_yaml
from cupola.entities.resources import read_bytes
from cupola.errors import ConfigError
from cupola.settings import read_setting

SYSTEM = Path("/")
_ASK_GPUS_S = 10.0
"""How long the driver's own program may take to list graphics processors; the first call after a boot is slow."""
_VISIBLE = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES")


class Gpu(msgspec.Struct, frozen=True):
    """One graphics processor.

    Attributes:
        id: What `CUDA_VISIBLE_DEVICES` calls it.
        model: Its model; empty where nothing tells.
        by_bus: Whether the id is its position in the order of bus addresses, which isn't what CUDA counts by at first.
    """

    id: str
    model: str = ""
    by_bus: bool = False


class Capacity(msgspec.Struct, frozen=True, kw_only=True):
    """What a host has.

    Attributes:
        cpu: Processors that this process may use; a quota can be a part of one.
        memory: Bytes that this process may use.
        gpus: Graphics processors that it may use.
        slots: Amounts of named slots.
    """

    cpu: float
    memory: int
    gpus: tuple[Gpu, ...] = ()
    slots: dict[str, float] = {}


def count_cpus(system: Path = SYSTEM) -> float:
    """Return how many processors this process may use: by its affinity, and by the quota of its control group."""
    try:
        cpus = float(len(os.sched_getaffinity(0)))
    except AttributeError:  # not on macOS
        cpus = float(os.cpu_count() or 1)
    for folder in _groups("cpu", system):
        with suppress(OSError, ValueError):
            old = _words(folder / "cpu.cfs_quota_us") + _words(folder / "cpu.cfs_period_us")
            quota, period = _words(folder / "cpu.max") or old
            if quota != "max" and int(quota) > 0:
                cpus = min(cpus, int(quota) / int(period))
    return cpus


def count_memory(system: Path = SYSTEM) -> int:
    """Return how many bytes of memory this process may use: what the host has, and the limit of its control group."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for folder in _groups("memory", system):
        with suppress(OSError, ValueError):
            (limit,) = _words(folder / "memory.max") or _words(folder / "memory.limit_in_bytes")
            if limit != "max":
                memory = min(memory, int(limit))
    return memory


def find_gpus(system: Path = SYSTEM) -> tuple[Gpu, ...]:
    """Return the graphics processors that this process may use.

    `CUPOLA_GPUS` says how many or which; else `CUDA_VISIBLE_DEVICES` or `HIP_VISIBLE_DEVICES` which of those that the
    system has, in the order of their bus addresses.

    Raises:
        ConfigError: `CUPOLA_GPUS` is neither a number nor a list.
    """
    said = read_setting("gpus").strip()
    if said.isdigit():
        return tuple(Gpu(str(index)) for index in range(int(said)))
    if said:
        ids = [word.strip() for word in said.split(",") if word.strip()]
        if not ids or len(set(ids)) < len(ids) or any(" " in word or word.startswith("-") for word in ids):
            raise ConfigError(
                f"CUPOLA_GPUS={said!r} is neither a number nor a list",
                fix="write how many graphics processors there are (2), or which, with commas (0,3)",
            )
        return tuple(map(Gpu, ids))
    visible = next((os.environ[name] for name in _VISIBLE if name in os.environ), None)
    if visible is None:
        return _installed_gpus(system)
    chosen: list[str] = []
    for word in map(str.strip, visible.split(",")):
        # As the drivers read it: the list ends at the first that is none.
        if not word or word.startswith("-") or word == "NoDevFiles":
            break
        if word not in chosen:
            chosen.append(word)
    models = {gpu.id: gpu.model for gpu in _installed_gpus(system)} if chosen else {}
    return tuple(Gpu(word, models.get(word, "")) for word in chosen)


def read_slots(root: Path | None) -> dict[str, float]:
    """Return the named slots that `slots` of a project's `.cupola/config.yaml` and, above it, `CUPOLA_SLOTS` declare.

    `cpu` and `memory` among them stand for what the host has of these.

    Raises:
        ConfigError: One makes no sense; the message says where it stands.
    """
    said = dict(_slots_of_project(root)) if root else {}
    text = read_setting("slots")
    for part in filter(None, map(str.strip, text.split(","))):
        name, _, amount = part.partition("=")
        said[name.strip()] = amount.strip(), f"CUPOLA_SLOTS={text}"
    return {name: _read_amount(name, amount, where) for name, (amount, where) in said.items()}


def _slots_of_project(root: Path) -> Iterator[tuple[str, tuple[str, str]]]:
    path = root / ".cupola" / "config.yaml"
    # Reading YAML costs an import that a file without slots isn't worth.
    with suppress(OSError):
        if b"slots" not in path.read_bytes():
            return
        tree = read_yaml(path)
        slots = tree.get("slots") if isinstance(tree, Fields) else None
        if slots is not None and not isinstance(slots, Fields):
            raise ConfigError("slots must be a mapping", where=str(path), fix="write `name: amount` on each line")
        for key, value in slots.items if slots is not None else ():
            is_text = isinstance(value, Text)
            yield key.text, (value.expanded() if is_text else "", value.place if is_text else f"{path}: {key.text}")


def _read_amount(name: str, text: str, where: str) -> float:
    amount = read_bytes(text) if name == "memory" else None
    if amount is None and name != "memory":
        with suppress(ValueError):
            amount = float(text)
    if not name or name in ("gpu", "gpus") or amount is None or not 0 <= amount < 1e15:
        fix = "graphics processors are counted by CUPOLA_GPUS" if name in ("gpu", "gpus") else "write name=amount"
        raise ConfigError(f"slot {name!r} can't have the amount {text!r}", where=where, fix=f"{fix}: licence=1")
    return amount


def _installed_gpus(system: Path) -> tuple[Gpu, ...]:
    found = _ask_nvidia(system)
    if found is not None:
        return found
    names = [entry for entry in _list(system / "dev") if entry.startswith("nvidia") and entry[6:].isdigit()]
    if names:
        folder = system / "proc/driver/nvidia/gpus"
        models = [_property(folder / address / "information", "Model:") for address in sorted(_list(folder))]
        # A container may see the addresses of all and the devices of some.
        known = models if len(models) == len(names) else [""] * len(names)
        return tuple(Gpu(str(index), model, by_bus=True) for index, model in enumerate(known))
    nodes = system / "sys/class/kfd/kfd/topology/nodes"
    simds = [_property(nodes / node / "properties", "simd_count") for node in _list(nodes)]
    return tuple(Gpu(str(index)) for index in range(sum(count not in ("", "0") for count in simds)))


def _ask_nvidia(system: Path) -> tuple[Gpu, ...] | None:
    """Return what NVIDIA's own program lists, the only one that is right in every container; None without it."""
    program = next((path for path in os.get_exec_path() if os.access(f"{path}/nvidia-smi", os.X_OK)), None)
    if program is None or system != SYSTEM:
        return None
    import subprocess  # only where there is such a program

    words = [f"{program}/nvidia-smi", "--query-gpu=index,name", "--format=csv,noheader"]
    try:
        said = subprocess.run(words, capture_output=True, text=True, timeout=_ASK_GPUS_S, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    lines = [line.partition(",") for line in said.splitlines() if line.strip()]
    return tuple(Gpu(index.strip(), model.strip(), by_bus=True) for index, _, model in lines)


def _property(path: Path, name: str) -> str:
    with suppress(OSError):
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith(name):
                return line[len(name) :].strip()
    return ""


def _list(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _words(path: Path) -> list[str]:
    """Return the words of a file; none where there is no such file."""
    try:
        return path.read_text(encoding="ascii").split()
    except OSError:
        return []


def _groups(controller: str, system: Path) -> Iterator[Path]:
    """Yield the folders of the control groups that this process is in, inner ones first, of versions 1 and 2."""
    inside: dict[str, str] = {}
    for line in _lines(system / "proc/self/cgroup"):
        _, names, path = line.split(":", 2)
        inside.update(dict.fromkeys(names.split(","), path))
    for line in _lines(system / "proc/self/mountinfo"):
        head, _, tail = line.partition(" - ")
        kind, _, options = tail.partition(" ")
        if kind == "cgroup2" or (kind == "cgroup" and controller in options.rpartition(" ")[2].split(",")):
            top, mount = head.split(" ")[3:5]
            path = inside.get("" if kind == "cgroup2" else controller)
            if path is not None:
                yield from _up(path, top, system / mount.lstrip("/"))


def _up(path: str, top: str, mount: Path) -> Iterator[Path]:
    # In a container the mount may show only a part of the tree, while the path counts from the tree's own root.
    below = PurePosixPath(path)
    inner = below.relative_to(top) if below.is_relative_to(top) else PurePosixPath()
    yield mount / inner
    for above in inner.parents:
        yield mount / above


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return []
