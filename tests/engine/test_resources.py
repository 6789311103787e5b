"""What steps need of their host: said once, counted over all processes there, free again when a holder dies."""

from __future__ import annotations

import copy
import fcntl
import itertools
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cupola import ConfigError, Resources, Unreachable, pipeline, step
from cupola.engine import capacity, holders
from cupola.engine.capacity import Gpu, count_cpus, count_memory, find_gpus, read_slots
from cupola.engine.resources import HostResources, Need, read_holdings, read_need
from cupola.engine.shares import PATIENCE
from cupola.entities.resources import Amounts, read_bytes

# What users write


pytestmark = pytest.mark.skip(reason="slots of a host are not in use yet")


@pytest.mark.feature("ENG-02")
def test_resources_name_slots_beside_the_known_kinds() -> None:
    said = Resources(cpu=2, memory="8GiB", gpu=1, gpu_type="a100", licence=1, db=0.5)
    assert said.amounts == Amounts(2.0, 8 * 1024**3, 1, "a100", {"db": 0.5, "licence": 1.0})
    assert repr(said) == "Resources(cpu=2, memory='8GiB', gpu=1, gpu_type='a100', licence=1, db=0.5)"
    assert Resources().amounts == Amounts()
    assert Resources(gpu_type="h100").amounts.gpu == 1, "a type alone asks for one"


@pytest.mark.feature("ENG-02")
def test_resources_are_values_equal_by_their_amounts() -> None:
    one, same = Resources(memory="2GiB", a=1, b=2), Resources(memory=2 * 1024**3, b=2, a=1)
    assert one == same
    assert hash(one) == hash(same)
    assert one != Resources(memory="2GB", a=1, b=2)
    assert pickle.loads(pickle.dumps(one)) == copy.deepcopy(one) == one


@pytest.mark.feature("ENG-02")
@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("8GiB", 8 * 1024**3), ("8Gi", 8 * 1024**3), ("8 gib", 8 * 1024**3), ("8GB", 8 * 1000**3), ("8G", 8 * 1000**3),
        ("1.5 MiB", 1572864), ("1500000", 1500000), ("2e6 B", 2000000), ("1TB", 1000**4), ("0.1kB", 100),
        ("", None), ("8 apples", None), ("-1GB", None), ("0", None), ("nan", None), ("infGB", None), ("8GiBB", None),
        ("G", None), ("1e30PB", None),
    ],
)  # fmt: skip
def test_memory_is_read_with_its_unit(text: str, size_bytes: int | None) -> None:
    assert read_bytes(text) == size_bytes


@pytest.mark.feature("ENG-02")
@given(st.integers(1, 2**40))
def test_memory_as_a_number_is_memory_as_a_text(number: int) -> None:
    assert read_bytes(str(number)) == read_bytes(f"{number}B") == number


@pytest.mark.feature("ENG-02")
@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"cpu": 0}, "cpu=0) must be a number above 0"),
        ({"cpu": True}, "cpu=True"),
        ({"cpu": float("nan")}, "cpu=nan"),
        ({"cpu": "2"}, "cpu='2'"),
        ({"memory": "8 apples"}, "memory='8 apples') is no amount of memory: write bytes, or a text such as"),
        ({"memory": 8}, "write the unit, such as '8GiB'"),
        ({"memory": -1}, "memory=-1"),
        ({"memory": None, "gpu": 0.5}, "isn't shared between steps"),
        ({"gpu": -1}, "gpu=-1"),
        ({"gpu_type": " "}, "gpu_type=' '"),
        ({"licence": "one"}, "slot 'licence' can't be 'one'"),
        ({"licence": 0}, "write the amount as a number, such as licence=1"),
        ({"licence": 10**400}, "slot 'licence'"),
        ({"slots": {"licence": 1}}, "name each slot by itself: Resources(licence=1)"),
        ({"a,b": 1}, "'a,b' is no name of a slot"),
    ],
)
def test_amounts_that_make_no_sense_are_refused_where_they_are_written(said: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Resources(**said)
    assert words in str(caught.value)


@pytest.mark.feature("ENG-02")
def test_what_a_step_needs_stands_in_the_snapshot_and_changes_no_cache_key() -> None:
    @step
    def fit() -> int:
        return 1

    @pipeline
    def p(resources: int = 0) -> None:
        said = {1: Resources(), 2: Resources(cpu=2, memory="1GiB", a=1), 3: Resources(a=1, memory=1024**3, cpu=2.0)}
        (fit.with_options(resources=said[resources]) if resources else fit)()

    compiled = [p.compile(resources=number) for number in range(4)]
    said = [snapshot.options[snapshot.steps[0].options].resources for snapshot in compiled]
    assert said[0] == said[1] == b""
    assert said[2] == said[3]
    assert read_need(said[2], "r1", "fit") == Need("r1", "fit", Amounts(2.0, 1024**3, slots={"a": 1.0}))
    assert len({snapshot.steps[0].base_key for snapshot in compiled}) == 1


# What a host has


def group(system: Path, cgroup: str, mounts: str, files: dict[str, str]) -> Path:
    """Make a tree like that of a host, with the control groups of this process in it."""
    for name, text in {"proc/self/cgroup": cgroup, "proc/self/mountinfo": mounts, **files}.items():
        (system / name).parent.mkdir(parents=True, exist_ok=True)
        (system / name).write_text(text)
    return system


V2 = "31 23 0:28 / /sys/fs/cgroup rw,relatime - cgroup2 cgroup2 rw\n"
V1 = (
    "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n"
    "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
)
V1_SEEN_FROM_A_CONTAINER = V1.replace(" / /sys", " /docker/abc /sys")


@pytest.mark.feature("ENG-02")
@pytest.mark.parametrize(
    ("cgroup", "mounts", "files"),
    [
        ("0::/\n", V2, {"sys/fs/cgroup/cpu.max": "50000 100000\n", "sys/fs/cgroup/memory.max": "104857600\n"}),
        (
            "0::/user/a\n",
            V2,
            {
                "sys/fs/cgroup/user/cpu.max": "50000 100000\n",
                "sys/fs/cgroup/user/a/cpu.max": "max 100000\n",
                "sys/fs/cgroup/user/memory.max": "209715200\n",
                "sys/fs/cgroup/user/a/memory.max": "104857600\n",
            },
        ),
        (
            "4:memory:/a/b\n1:cpu,cpuacct:/a/b\n0::/\n",
            V1,
            {
                "sys/fs/cgroup/cpu/a/b/cpu.cfs_quota_us": "50000\n",
                "sys/fs/cgroup/cpu/a/b/cpu.cfs_period_us": "100000\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/memory/a/memory.limit_in_bytes": "104857600\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            },
        ),
        (
            "4:memory:/docker/abc\n1:cpu,cpuacct:/docker/abc\n",
            V1_SEEN_FROM_A_CONTAINER,
            {
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "50000\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "104857600\n",
            },
        ),
    ],
    ids=["v2", "v2 nested", "v1", "v1 in a container"],
)
def test_processors_and_memory_end_at_the_limits_of_the_control_group(
    tmp_path: Path, cgroup: str, mounts: str, files: dict[str, str]
) -> None:
    system = group(tmp_path, cgroup, mounts, files)
    assert count_cpus(system) == 0.5
    assert count_memory(system) == 100 * 1024**2


@pytest.mark.feature("ENG-02")
def test_without_limits_the_host_counts_and_the_affinity(tmp_path: Path) -> None:
    affinity = getattr(os, "sched_getaffinity", lambda _pid: range(os.cpu_count() or 1))
    system = group(tmp_path, "0::/\n", V2, {"sys/fs/cgroup/cpu.max": "max 100000", "sys/fs/cgroup/memory.max": "max"})
    assert count_cpus(system) == count_cpus(tmp_path / "nothing") == len(affinity(0))
    assert count_memory(system) == count_memory(tmp_path / "nothing") > 2**28


@pytest.mark.feature("ENG-02")
@pytest.mark.parametrize(
    ("variables", "ids"),
    [
        ({"CUPOLA_GPUS": "2"}, ["0", "1"]),
        ({"CUPOLA_GPUS": "0"}, []),
        ({"CUPOLA_GPUS": "0, 3"}, ["0", "3"]),
        ({"CUPOLA_GPUS": "3,"}, ["3"]),
        ({"CUPOLA_GPUS": "1", "CUDA_VISIBLE_DEVICES": "5,6"}, ["0"]),
        ({"CUDA_VISIBLE_DEVICES": "2,GPU-8932,2"}, ["2", "GPU-8932"]),
        ({"CUDA_VISIBLE_DEVICES": "1,-1,0"}, ["1"]),
        ({"CUDA_VISIBLE_DEVICES": ""}, []),
        ({"HIP_VISIBLE_DEVICES": "1"}, ["1"]),
        ({}, ["0", "1", "2"]),
    ],
)
def test_graphics_processors_are_those_that_this_process_may_see(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variables: dict[str, str], ids: list[str]
) -> None:
    for name in ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    for name, text in variables.items():
        monkeypatch.setenv(name, text)
    (tmp_path / "dev").mkdir()
    for name in ("nvidia0", "nvidia1", "nvidia7", "nvidiactl", "nvidia-uvm"):
        (tmp_path / "dev" / name).touch()
    assert [gpu.id for gpu in find_gpus(tmp_path)] == ids


@pytest.mark.feature("ENG-02")
@pytest.mark.parametrize("said", ["0 1", "-1", "1,1", ","])
def test_a_wrong_list_of_graphics_processors_is_refused(monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    monkeypatch.setenv("CUPOLA_GPUS", said)
    with pytest.raises(ConfigError, match="is neither a number nor a list"):
        find_gpus()


@pytest.mark.feature("ENG-02")
def test_models_come_from_the_vendors_program_or_from_what_its_driver_lists(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    for number, model in enumerate(["A100", "T4"]):
        (tmp_path / f"dev/nvidia{number}").parent.mkdir(exist_ok=True)
        (tmp_path / f"dev/nvidia{number}").touch()
        folder = tmp_path / f"proc/driver/nvidia/gpus/0000:0{number}:00.0"
        folder.mkdir(parents=True)
        (folder / "information").write_text(f"Model: \t\t NVIDIA {model}\nIRQ: 1\n")
    assert [gpu.model for gpu in find_gpus(tmp_path)] == ["NVIDIA A100", "NVIDIA T4"]
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho '0, NVIDIA H100'\necho '1, NVIDIA L4'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert find_gpus() == (Gpu("0", "NVIDIA H100", True), Gpu("1", "NVIDIA L4", True))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert find_gpus() == (Gpu("1", "NVIDIA L4"),)


@pytest.mark.feature("ENG-02")
def test_amd_processors_are_counted_by_the_nodes_that_compute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    for node, simds in enumerate([0, 304, 304]):
        folder = tmp_path / f"sys/class/kfd/kfd/topology/nodes/{node}"
        folder.mkdir(parents=True)
        (folder / "properties").write_text(f"cpu_cores_count 64\nsimd_count {simds}\n")
    assert [gpu.id for gpu in find_gpus(tmp_path)] == ["0", "1"]


@pytest.mark.feature("ENG-02")
def test_slots_are_declared_by_the_project_and_above_it_by_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert read_slots(tmp_path) == {}
    (tmp_path / ".cupola").mkdir()
    (tmp_path / ".cupola/config.yaml").write_text("slots:\n  licence: 1\n  db: ${DB:-4}\n")
    assert read_slots(tmp_path) == {"licence": 1.0, "db": 4.0}
    assert read_slots(None) == {}
    monkeypatch.setenv("CUPOLA_SLOTS", " licence=2, memory=4GiB ,cpu=0.5")
    assert read_slots(tmp_path) == {"licence": 2.0, "db": 4.0, "memory": 4 * 1024**3, "cpu": 0.5}


@pytest.mark.feature("ENG-02")
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("licence", "slot 'licence' can't have the amount ''"),
        ("licence=many", "'many' (CUPOLA_SLOTS=licence=many)"),
        ("=1", "slot ''"),
        ("memory=lots", "slot 'memory'"),
        ("gpu=2", "CUPOLA_GPUS"),
    ],
)
def test_slots_that_make_no_sense_are_refused(monkeypatch: pytest.MonkeyPatch, text: str, words: str) -> None:
    monkeypatch.setenv("CUPOLA_SLOTS", text)
    with pytest.raises(ConfigError) as caught:
        read_slots(None)
    assert words in str(caught.value)


@pytest.mark.feature("ENG-02")
def test_slots_in_a_projects_file_are_refused_with_their_place(tmp_path: Path) -> None:
    (tmp_path / ".cupola").mkdir()
    config = tmp_path / ".cupola/config.yaml"
    config.write_text("slots:\n  licence: one\n")
    with pytest.raises(ConfigError, match=r"config\.yaml:2"):
        read_slots(tmp_path)
    config.write_text("slots: 3\n")
    with pytest.raises(ConfigError, match="slots must be a mapping"):
        read_slots(tmp_path)


# Taking and giving back, within one process


@pytest.fixture
def driver(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], HostResources]]:
    """Return a function that makes the resources of one more driver, on a host with 8 cpus, 4 slots and 3 GPUs."""
    monkeypatch.setenv("CUPOLA_SLOTS", "cpu=8,memory=16GiB,licence=4,tool=1")
    monkeypatch.setenv("CUPOLA_GPUS", "3")
    made: list[HostResources] = []

    def make() -> HostResources:
        made.append(HostResources(home))
        return made[-1]

    yield make
    for one in made:
        one.close()


def need(step: str = "fit", run: str = "r1", **said: Any) -> Need:
    return Need(run, step, Resources(**said).amounts)


@pytest.mark.feature("ENG-02")
def test_what_one_driver_has_others_have_not_until_it_gives_it_back(
    driver: Callable[[], HostResources], home: Path
) -> None:
    one, other = driver(), driver()
    lease = one.try_take(need(cpu=6, licence=1))
    assert lease
    wanted = need("eval", "r2", cpu=4)
    assert other.try_take(wanted) is None
    assert other.waits_for(wanted) == "cpu (held by run r1, step fit)"
    assert other.try_take(need("small", "r2", cpu=2))
    assert [(one.step, one.run, one.pid, one.is_held, one.needs) for one in read_holdings(home)] == [
        ("fit", "r1", os.getpid(), True, {"cpu": 6.0, "licence": 1.0}),
        ("eval", "r2", os.getpid(), False, {"cpu": 4.0}),
        ("small", "r2", os.getpid(), True, {"cpu": 2.0}),
    ]
    one.release(lease)
    one.release(lease)
    assert other.waits_for(wanted) == ""
    assert other.try_take(wanted)
    other.close()
    assert one.held() == []


@pytest.mark.feature("ENG-02")
def test_a_need_is_met_whole_or_not_at_all(driver: Callable[[], HostResources]) -> None:
    one, other = driver(), driver()
    assert one.try_take(need(tool=1))
    assert other.try_take(need("b", cpu=8, tool=1)) is None
    assert one.try_take(need("c", cpu=8)), "who waits holds nothing"


@pytest.mark.feature("ENG-02")
def test_steps_without_needs_touch_nothing(driver: Callable[[], HostResources], home: Path) -> None:
    one = driver()
    assert read_need(b"", "r", "s") is None
    lease = one.try_take(need())
    assert lease
    assert lease.environment() == {}
    one.release(lease)
    one.withdraw(need())
    one.close()
    assert one.held() == []
    assert list(home.iterdir()) == []


@pytest.mark.feature("ENG-02")
def test_parts_add_up_to_the_whole(driver: Callable[[], HostResources]) -> None:
    one = driver()
    assert all(one.try_take(need(f"s{number}", tool=0.1)) for number in range(10))
    assert one.try_take(need("s10", tool=0.1)) is None


@pytest.mark.feature("ENG-02")
def test_each_step_sees_its_own_graphics_processors_only(driver: Callable[[], HostResources]) -> None:
    one, other = driver(), driver()
    first, second = one.try_take(need("a", gpu=2)), other.try_take(need("b", gpu=1))
    assert first
    assert second
    assert first.environment()["CUDA_VISIBLE_DEVICES"] == first.environment()["HIP_VISIBLE_DEVICES"] == "0,1"
    assert second.environment()["CUDA_VISIBLE_DEVICES"] == "2"
    assert one.try_take(need("c", gpu=1)) is None
    assert one.waits_for(need("c", gpu=1)) == "gpu (held by run r1, step a; run r1, step b)"
    one.release(first)
    third = other.try_take(need("d", gpu=1))
    assert third
    assert [gpu.id for gpu in third.gpus] == ["0"]
    none = one.try_take(need("e", gpu=0))
    assert none
    assert none.environment() == {"CUDA_VISIBLE_DEVICES": "-1", "HIP_VISIBLE_DEVICES": "-1"}
    left_alone = one.try_take(need("f", cpu=1))
    assert left_alone
    assert "CUDA_VISIBLE_DEVICES" not in left_alone.environment()


@pytest.mark.feature("ENG-02")
def test_a_type_chooses_among_the_graphics_processors(
    driver: Callable[[], HostResources], monkeypatch: pytest.MonkeyPatch
) -> None:
    gpus = (Gpu("0", "NVIDIA T4", True), Gpu("1", "NVIDIA A100-SXM4", True))
    monkeypatch.setattr(capacity, "find_gpus", lambda: gpus)
    one = driver()
    lease = one.try_take(need(gpu_type="a100"))
    assert lease
    assert lease.gpus == (gpus[1],)
    assert lease.environment()["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    waiting = need("b", gpu_type="A100")
    assert one.try_take(waiting) is None
    assert one.waits_for(waiting) == "gpu (held by run r1, step fit)"
    with pytest.raises(ConfigError, match=r"gpu_type='h100', gpu=1; this host has NVIDIA A100-SXM4, NVIDIA T4"):
        one.try_take(need("c", gpu_type="h100"))


@pytest.mark.feature("ENG-02")
@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"cpu": 9}, "step 'fit' needs cpu=9, more than this host will ever have: 8"),
        ({"memory": "17GiB"}, "needs memory=18 GB, more than this host will ever have: 17 GB"),
        ({"gpu": 4}, "CUPOLA_GPUS says how many"),
        ({"licence": 5}, "CUPOLA_SLOTS says how many there are: licence=5"),
        ({"licens": 1}, "did you mean 'licence'? CUPOLA_SLOTS=\"licens=1\" says it, or `licens: 1` below `slots:` in"),
        ({"cpus": 2}, "did you mean 'cpu'?"),
        ({"quite_other": 2}, "known are: licence, tool."),
    ],
)
def test_what_can_never_be_had_is_an_error_at_once(
    driver: Callable[[], HostResources], said: dict[str, Any], words: str
) -> None:
    one = driver()
    for refuse in (one.check, one.try_take):
        with pytest.raises(ConfigError) as caught:
            refuse(need(**said))
        assert words in str(caught.value)


@pytest.mark.feature("ENG-02")
def test_the_capacity_can_be_shown(driver: Callable[[], HostResources]) -> None:
    shown = driver().capacity()
    assert (shown.cpu, shown.memory, shown.slots) == (8.0, 16 * 1024**3, {"licence": 4.0, "tool": 1.0})
    assert [gpu.id for gpu in shown.gpus] == ["0", "1", "2"]


# Whose turn it is


@pytest.mark.feature("ENG-02")
def test_a_large_need_is_not_starved_by_small_ones(driver: Callable[[], HostResources]) -> None:
    one, other = driver(), driver()
    held = [one.try_take(need(f"s{number}", cpu=2)) for number in range(4)]
    large = need("large", "r2", cpu=8)
    went_first = 0
    while (lease := other.try_take(large)) is None:
        went_first += 1
        assert went_first < 4 * PATIENCE, "it waits for ever"
        # A small step ends, and the next one wants its place at once.
        ended = held.pop(0)
        if ended:
            one.release(ended)
        held.append(one.try_take(need(f"n{went_first}", cpu=2)))
        if held[-1] is None:
            held.pop()
    assert went_first >= PATIENCE
    waiting = need(f"n{went_first}", cpu=2)
    assert one.try_take(waiting) is None
    other.release(lease)
    assert one.try_take(waiting)


@pytest.mark.feature("ENG-02")
def test_who_wants_something_else_never_waits_for_its_turn(driver: Callable[[], HostResources]) -> None:
    one, other = driver(), driver()
    assert one.try_take(need("a", tool=1))
    assert one.try_take(need("b", tool=1, cpu=4)) is None
    for number in range(PATIENCE + 5):
        lease = other.try_take(need(f"other{number}", cpu=4))
        assert lease, "what waits for a tool would still have its processors"
        other.release(lease)
    waiting = need("most", cpu=5)
    assert other.try_take(waiting) is None
    assert other.waits_for(waiting) == "its turn (run r1, step b came first)"


@pytest.mark.feature("ENG-02")
def test_who_no_longer_asks_holds_nobody_up(
    driver: Callable[[], HostResources], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = driver(), driver()
    small = one.try_take(need("small", cpu=1))
    for which, give_up in (("withdrawn", one.withdraw), ("silent", None)):
        waiting = need(which, cpu=8)
        assert one.try_take(waiting) is None
        for number in range(PATIENCE + 1):
            lease = other.try_take(need(f"{which}{number}", cpu=1))
            if lease:
                other.release(lease)
        late = need(f"late{which}", cpu=1)
        assert other.try_take(late) is None
        if give_up:
            give_up(waiting)
        else:
            now = time.monotonic()
            monkeypatch.setattr(time, "monotonic", lambda now=now: now + 60)
        lease = other.try_take(late)
        assert lease
        other.release(lease)
    assert small


# Runs within steps


@pytest.mark.feature("ENG-02")
def test_what_a_step_starts_is_a_part_of_what_it_has(
    driver: Callable[[], HostResources], monkeypatch: pytest.MonkeyPatch
) -> None:
    outer = driver()
    lease = outer.try_take(need("outer", cpu=6, gpu=3))
    assert lease
    monkeypatch.setenv("CUPOLA_WITHIN", lease.environment()["CUPOLA_WITHIN"])
    inner = driver()
    monkeypatch.delenv("CUPOLA_WITHIN")
    first = inner.try_take(need("inner", "r2", cpu=4, gpu=2))
    assert first, "it comes out of what the outer step has"
    assert [gpu.id for gpu in first.gpus] == ["0", "1"]
    assert inner.try_take(need("inner2", "r2", gpu=2)) is None
    second = inner.try_take(need("inner3", "r2", cpu=4, gpu=1))
    assert second
    assert [gpu.id for gpu in second.gpus] == ["2"]
    stranger = driver()
    assert stranger.try_take(need("stranger", "r3", cpu=1)) is None, "all of them have 8, of 8"
    inner.release(second)
    assert stranger.try_take(need("stranger", "r3", cpu=2))
    assert stranger.try_take(need("stranger2", "r3", cpu=1)) is None


@pytest.mark.feature("ENG-02")
def test_steps_that_wait_for_runs_within_them_never_wait_for_each_other_for_ever(
    driver: Callable[[], HostResources], monkeypatch: pytest.MonkeyPatch
) -> None:
    inner: list[HostResources] = []
    outer = driver()
    for number in range(2):
        lease = outer.try_take(need(f"outer{number}", cpu=4, licence=2))
        assert lease
        monkeypatch.setenv("CUPOLA_WITHIN", lease.environment()["CUPOLA_WITHIN"])
        inner.append(driver())
        monkeypatch.delenv("CUPOLA_WITHIN")
    wanted = [need("inner", f"i{number}", cpu=8, licence=4) for number in range(2)]
    assert inner[0].try_take(wanted[0]) is None
    lease = inner[1].try_take(wanted[1])
    assert lease, "the first only waits"
    assert inner[0].try_take(wanted[0]) is None
    inner[1].release(lease)
    inner[1].withdraw(wanted[1])
    assert inner[0].try_take(wanted[0]) is None, "the outer step of the second computes again"
    assert inner[1].try_take(need("more", "i1", cpu=5, licence=4)) is not None


# Over processes, and deaths

CONTEND = """
import os, pathlib, sys, time
from cupola import Resources
from cupola.engine.resources import HostResources, Need
home, here = map(pathlib.Path, sys.argv[1:3])
me = str(os.getpid())
resources = HostResources(home)
witness = os.open(here / "witness", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
for number in range(15):
    need = Need(me, f"step{number}", Resources(licence=1).amounts)
    while (lease := resources.try_take(need)) is None:
        time.sleep(0.001)
    os.write(witness, b"+\\n")
    time.sleep(0.002)
    os.write(witness, b"-\\n")
    resources.release(lease)
resources.close()
"""

HOLD = """
import os, pathlib, sys, time
from cupola import Resources
from cupola.engine.resources import HostResources, Need
home, here = map(pathlib.Path, sys.argv[1:3])
resources = HostResources(home)
lease = resources.try_take(Need("held", "fit", Resources(licence=1).amounts))
assert lease
"""


def start(source: str, home: Path, folder: Path, *before: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*before, sys.executable, "-c", source, str(home), str(folder)], stdout=subprocess.PIPE, text=True
    )


@pytest.mark.feature("ENG-02")
def test_eight_processes_that_want_two_slots_never_have_more(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUPOLA_SLOTS", "licence=2")
    processes = [start(CONTEND, home, tmp_path) for _ in range(8)]
    for process in processes:
        assert process.wait(60) == 0
        process.communicate()
    lines = (tmp_path / "witness").read_text().split()
    assert len(lines) == 8 * 15 * 2
    levels = list(itertools.accumulate(1 if line == "+" else -1 for line in lines))
    assert max(levels) == 2, "both are used, and never more"
    assert levels[-1] == 0
    assert read_holdings(home) == []
    assert [path.name for path in (home / "resources").iterdir()] == ["lock"]


@pytest.mark.feature("ENG-02")
def test_a_killed_holder_frees_at_once_and_needs_no_heartbeat(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUPOLA_SLOTS", "licence=1")
    process = start(HOLD + "print(flush=True); time.sleep(60)", home, tmp_path)
    assert process.stdout
    process.stdout.readline()
    mine, wanted = HostResources(home), need(licence=1)
    # A driver that was stopped for however long still has what it has.
    process.send_signal(signal.SIGSTOP)
    assert mine.try_take(wanted) is None
    assert mine.waits_for(wanted) == "licence (held by run held, step fit)"
    assert [one.pid for one in read_holdings(home) if one.is_held] == [process.pid]
    process.kill()
    process.communicate()
    assert mine.waits_for(wanted) == ""
    assert mine.try_take(wanted)
    assert len(list((home / "resources").glob("*.holder"))) == 1, "what the dead one left is gone"
    mine.close()


CONTEND_UNTIL_KILLED = """
import fcntl, os, pathlib, sys, time
from cupola import Resources
from cupola.engine.resources import HostResources, Need
home, here = map(pathlib.Path, sys.argv[1:3])
me = str(os.getpid())
witnesses = [os.open(here / f"witness-{number}", os.O_RDWR | os.O_CREAT) for number in range(2)]
def is_free(witness):
    try:
        fcntl.flock(witness, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
resources = HostResources(home)
for number in range(10**9):
    need = Need(me, f"step{number}", Resources(licence=1).amounts)
    while (lease := resources.try_take(need)) is None:
        time.sleep(0.0005)
    mine = next(filter(is_free, witnesses), None)
    (here / f"{'taken' if mine is not None else 'too many'}-{me}").touch()
    time.sleep(0.001)
    if mine is not None:
        fcntl.flock(mine, fcntl.LOCK_UN)
    resources.release(lease)
"""


@pytest.mark.feature("ENG-02")
def test_kills_at_any_moment_leave_no_slot_taken_and_none_taken_twice(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUPOLA_SLOTS", "licence=2")
    random = Random(7)
    running: list[subprocess.Popen[str]] = []
    for _ in range(12):
        running += [start(CONTEND_UNTIL_KILLED, home, tmp_path) for _ in range(4 - len(running))]
        victim = running.pop(0)
        deadline = time.monotonic() + 60
        while not (tmp_path / f"taken-{victim.pid}").exists():
            assert victim.poll() is None
            assert time.monotonic() < deadline, "it never got a slot: one was lost"
            time.sleep(0.001)
        # At any moment: it goes round in a few milliseconds.
        time.sleep(random.random() * 0.01)
        victim.kill()
        victim.communicate()
    for process in running:
        assert process.poll() is None
        process.kill()
        process.communicate()
    assert list(tmp_path.glob("too many-*")) == []
    assert read_holdings(home) == []
    mine = HostResources(home)
    assert mine.try_take(need(licence=2))
    mine.close()


@pytest.mark.feature("ENG-02")
def test_who_was_stopped_while_deciding_delays_others_and_blocks_nobody(
    driver: Callable[[], HostResources], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holders, "_LOCK_S", 0.05)
    one, other = driver(), driver()
    lease = one.try_take(need(cpu=1))
    assert lease
    with open(home / "resources/lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert other.try_take(need("b", cpu=1)) is None
        one.release(lease)
        assert read_holdings(home) == []
        assert one.waits_for(need("b", cpu=1)) == ""
    assert other.try_take(need("b", cpu=1))


@pytest.mark.feature("ENG-02")
def test_children_that_outlive_a_holder_hold_nothing(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUPOLA_SLOTS", "licence=1")
    process = start(
        HOLD
        + """
import subprocess
child = subprocess.Popen(["sleep", "60"], stdout=subprocess.DEVNULL)
fork = os.fork()
if fork == 0:
    resources.release(lease)
    resources.close()
    time.sleep(60)
print(child.pid, fork, flush=True)
time.sleep(60)
""",
        home,
        tmp_path,
    )
    assert process.stdout
    pids = [int(word) for word in process.stdout.readline().split()]
    mine = HostResources(home)
    try:
        assert mine.try_take(need(licence=1)) is None, "what the child closes is still its parent's"
        process.kill()
        process.wait()
        # A child that was forked just now closes what it has of its parent before it does anything else.
        deadline = time.monotonic() + 60
        while mine.try_take(need(licence=1)) is None:
            assert time.monotonic() < deadline
            time.sleep(0.005)
    finally:
        mine.close()
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        process.stdout.close()


@pytest.mark.feature("ENG-02")
def test_processes_that_cannot_see_each_others_ids_count_together(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    apart = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
    if shutil.which("unshare") is None or subprocess.run([*apart, "true"], capture_output=True).returncode:
        pytest.skip("needs the right to make a namespace of process ids, as containers have")
    monkeypatch.setenv("CUPOLA_SLOTS", "licence=1")
    process = start(HOLD + "print(os.getpid(), flush=True); time.sleep(60)", home, tmp_path, *apart)
    assert process.stdout
    assert int(process.stdout.readline()) < 10
    mine = HostResources(home)
    assert mine.try_take(need(licence=1)) is None
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 10
    while mine.try_take(need(licence=1)) is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    mine.close()


@pytest.mark.feature("ENG-02")
def test_a_full_disk_is_an_error_that_takes_nothing(
    home: Path, monkeypatch: pytest.MonkeyPatch, driver: Callable[[], HostResources]
) -> None:
    one, other = driver(), driver()
    assert one.try_take(need("a", licence=3))
    write = os.pwrite

    def short(file: int, data: bytes, offset: int) -> int:
        return write(file, data[:10], offset) if len(data) > 200 else write(file, data, offset)

    monkeypatch.setattr(os, "pwrite", short)
    with pytest.raises(Unreachable, match="the disk is full"):
        one.try_take(need("b" * 200, licence=1))
    monkeypatch.undo()
    monkeypatch.setenv("CUPOLA_SLOTS", "licence=4")
    assert [one.step for one in other.held()] == ["a"]
    assert other.try_take(need("c", licence=1))


@pytest.mark.feature("ENG-02")
def test_a_home_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("CUPOLA_SLOTS", "licence=1")
    with pytest.raises(Unreachable, match="CUPOLA_HOME"):
        HostResources(tmp_path / "file").try_take(need(licence=1))
    assert read_holdings(tmp_path / "file") == []
