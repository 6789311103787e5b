"""The measurements behind each figure; each function returns figures by the names of `targets.TARGETS`."""

from __future__ import annotations

import re
import shutil
import statistics
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from benchmarks import million
from benchmarks.measure import CUPOLA, HERE, PROGRAMS, Place, finish, take_turns

Figures = dict[str, float]
CALLS = {
    "fsyncs": ("fsync", "fdatasync", "sync_file_range", "msync"),
    "opens": ("open", "openat", "creat"),
    "mkdirs": ("mkdir", "mkdirat"),
    "writes": ("write", "pwrite64", "writev", "pwritev"),
}


class Skipped(Exception):
    """What a figure needs is not on this machine; said aloud."""


def imports(place: Place, times: int) -> Figures:
    """Measure what importing adds to a bare interpreter, in milliseconds."""
    bare, plain, names = take_turns(
        2 * times,
        lambda: place.run(sys.executable, "-c", "pass").seconds,
        lambda: place.run(sys.executable, "-c", "import cupola").seconds,
        lambda: place.run(sys.executable, "-c", "from cupola import step, pipeline").seconds,
    )
    return {"import": 1000 * (plain - bare), "import_names": 1000 * (names - bare)}


def readers(place: Place, times: int, runs: int = 10**6) -> Figures:
    """Measure commands that only read, in a large store."""
    home = place.new_home()
    place.python("hello.py", home=home)
    million.multiply_runs(home, runs)
    helped, listed = take_turns(
        2 * times,
        lambda: place.run(CUPOLA, "--help", home=home).seconds,
        lambda: place.run(CUPOLA, "ps", home=home).seconds,
    )
    shutil.rmtree(home)
    return {"help": 1000 * helped, "ps": 1000 * listed}


def hello(place: Place, times: int) -> Figures:
    """Measure the smallest program from start to exit, each time in a new store, to the floor's process."""
    peaks: list[int] = []

    def subject() -> float:
        home = place.new_home()
        done = place.python("hello.py", home=home)
        shutil.rmtree(home)
        peaks.append(done.peak_bytes)
        return done.seconds

    floor, ours = take_turns(2 * times, lambda: place.python("floor.py", 2).seconds, subject)
    return {"hello": ours / floor, "hello_memory": statistics.median(peaks) / 2**20}


def chains(place: Place, times: int, length: int = 1000) -> Figures:
    """Measure chains, recorded and cached, short and ten times as long."""
    firsts: dict[str, list[float]] = {"fresh": [], "cached": []}
    homes: list[Path] = []

    def fresh(steps: int) -> float:
        homes.append(place.new_home())
        done = place.python("chain.py", steps, home=homes[-1])
        if steps == length:
            firsts["fresh"].append(done.said["first"])
        return done.said["per_step"]

    def cached() -> float:
        done = place.python("chain.py", length, home=homes[-1])
        firsts["cached"].append(done.said["first"])
        return done.said["per_step"]

    floor, recorded, again = take_turns(
        times, lambda: place.python("floor.py", length).said["per_step"], lambda: fresh(length), cached
    )
    short, long = take_turns(max(2, times // 2), lambda: fresh(length), lambda: fresh(10 * length))
    peaks = []
    for steps in (length, 10 * length):
        homes.append(place.new_home())
        peaks.append(place.python("chain.py", steps, "once", home=homes[-1]).peak_bytes)
    for home in homes:
        shutil.rmtree(home)
    return {
        "chain": recorded / floor,
        "chain_first": statistics.median(firsts["fresh"]) / floor,
        "cached": again / floor,
        "cached_first": statistics.median(firsts["cached"]) / floor,
        "long_chain": long / short,
        "long_chain_memory": (peaks[1] - peaks[0]) / (9 * length) / 1000,
    }


def eight(place: Place, times: int, length: int = 1000) -> Figures:
    """Measure eight processes at once in one store, to eight floors at once."""
    home = place.new_home()

    def at_once(*command: object) -> float:
        started = [place.start(sys.executable, *command, home=home) for _ in range(8)]
        return statistics.mean(finish(one).said["per_step"] for one in started)

    floor, ours = take_turns(
        max(2, times // 2),
        lambda: at_once(HERE / "floor.py", length),
        lambda: at_once(PROGRAMS / "eight.py", length),
    )
    shutil.rmtree(home)
    return {"eight": ours / floor}


def dicts(place: Place, times: int, length: int = 1000) -> Figures:
    """Measure steps that hand on a dict of 10 kB."""

    def subject() -> float:
        home = place.new_home()
        seconds = place.python("dicts.py", length, home=home).said["per_step"]
        shutil.rmtree(home)
        return seconds

    floor, ours = take_turns(times, lambda: place.python("floor_dicts.py", length).said["per_step"], subject)
    return {"dicts": ours / floor}


def fan_out(place: Place, times: int, children: int = 5000) -> Figures:
    """Measure a step that is mapped over what another one made, and gathered, to the floor; and its memory."""

    def said(*arguments: object) -> dict[str, float]:
        home = place.new_home()
        found = place.python("fan.py", *arguments, home=home).said
        shutil.rmtree(home)
        return found

    floor, here, away = take_turns(
        times,
        lambda: place.python("floor.py", children).said["per_step"],
        lambda: said(children, 0)["per_step"],
        lambda: said(children, 2)["per_step"],
    )
    peak_kib = said(2 * children, 2, "once")["peak_kib"]
    return {"fan_out": here / floor, "fan_out_workers": away / floor, "fan_out_memory": peak_kib / 1024}


def array(place: Place, times: int, mebibytes: int = 1024) -> Figures:
    """Measure handing on an array, and the memory it takes."""
    peaks: list[int] = []

    def subject() -> float:
        done, seconds = _with_data(place, "array.py", mebibytes)
        peaks.append(done)
        return seconds

    floor, ours = take_turns(max(2, times // 2), lambda: _floor_with_data(place, "array.py", mebibytes), subject)
    return {"array": ours / floor, "array_memory": statistics.median(peaks) / (mebibytes * 2**20)}


def frame(place: Place, times: int, rows: int = 5_000_000) -> Figures:
    """Measure handing on a frame."""
    floor, ours = take_turns(
        max(2, times // 2),
        lambda: _floor_with_data(place, "frame.py", rows),
        lambda: _with_data(place, "frame.py", rows)[1],
    )
    return {"frame": ours / floor}


def logs(place: Place, times: int, megabytes: int = 100) -> Figures:
    """Measure a step that prints a lot, and the memory that the printing adds to one that prints nothing."""
    peaks: list[int] = []

    def subject() -> float:
        peak, seconds = _with_data(place, "logs.py", megabytes)
        peaks.append(peak)
        return seconds

    floor, ours = take_turns(max(2, times // 2), lambda: _floor_with_data(place, "logs.py", megabytes), subject)
    quiet, _ = _with_data(place, "logs.py", 0)
    return {"logs": ours / floor, "logs_memory": (statistics.median(peaks) - quiet) / 2**20}


def plan(place: Place, times: int, length: int = 10_000) -> Figures:
    """Measure `plan` in a store that has run the same before."""
    home = place.new_home()
    place.python("chain.py", length, home=home)
    (seconds,) = take_turns(times, lambda: place.python("plan.py", length, home=home).said["seconds"])
    shutil.rmtree(home)
    return {"plan": seconds}


def install(place: Place, times: int) -> Figures:
    """Install the package without extras into an empty folder, compiled, and count."""
    del times
    target = place.folder / "installed"
    command = [sys.executable, "-m", "pip", "install", "-q", "--compile", "--target", str(target), str(HERE.parent)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Skipped(f"pip can't install here: {done.stderr.strip().splitlines()[-1]}")
    size = sum(file.stat().st_size for file in target.rglob("*") if file.is_file())
    return {"install": size / 1e6, "distributions": len(list(target.glob("*.dist-info")))}


def system_calls(place: Place, times: int, length: int = 1000) -> Figures:
    """Count system calls per step, as the difference between a longer chain and a short one."""
    del times
    if not shutil.which("strace"):
        raise Skipped("strace is not installed")
    few, many = _count(place, 100), _count(place, 100 + length)
    # The program runs its chain twice.
    return {name: sum(many[call] - few[call] for call in calls) / (2 * length) for name, calls in CALLS.items()}


def _count(place: Place, length: int) -> Counter[str]:
    home, trace = place.new_home(), place.folder / "trace"
    names = ",".join(f"?{call}" for calls in CALLS.values() for call in calls)
    place.run(
        "strace",
        "-f",
        "--seccomp-bpf",
        "-o",
        trace,
        "-e",
        f"trace={names}",
        sys.executable,
        PROGRAMS / "chain.py",
        length,
        home=home,
    )
    with open(trace, encoding="utf-8", errors="replace") as lines:
        return Counter(found[1] for line in lines if (found := re.match(r"(?:\d+\s+)?(\w+)\(", line)))


def _with_data(place: Place, program: str, size: int) -> tuple[int, float]:
    home = place.new_home()
    done = place.python(program, size, home=home)
    shutil.rmtree(home)
    return done.peak_bytes, done.said["seconds"]


def _floor_with_data(place: Place, program: str, size: int) -> float:
    # The floor's files are taken away with the rest at the end otherwise: too much for a tmpfs.
    before = set(place.folder.iterdir())
    seconds = place.python(program, size, "floor").said["seconds"]
    for path in set(place.folder.iterdir()) - before:
        shutil.rmtree(path, ignore_errors=True)
    return seconds


QUICK: dict[Callable[..., Figures], dict[str, int]] = {
    readers: {"runs": 20_000},
    chains: {"length": 500},
    fan_out: {"children": 500},
    array: {"mebibytes": 128},
    frame: {"rows": 500_000},
    logs: {"megabytes": 10},
    install: {},
}
ALL: tuple[Callable[..., Figures], ...] = (
    imports, hello, chains, fan_out, eight, dicts, plan, system_calls, array, frame, logs, readers, install,
)  # fmt: skip
