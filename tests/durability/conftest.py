from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))


@pytest.fixture(scope="session")
def faults(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the library that makes writes fail, kills at one of them, or moves the clock; see faults.c."""
    if not sys.platform.startswith("linux"):
        pytest.skip("the library stands before the C library by LD_PRELOAD, which is Linux's way")
    compiler = next((name for name in ("cc", "gcc", "clang") if shutil.which(name)), None)
    if compiler is None:
        assert not os.environ.get("CI"), "CI needs a C compiler to show what faults do"
        pytest.skip("there is no C compiler: faults at every write, and a clock that jumps, are not shown here")
    library = tmp_path_factory.mktemp("faults") / "faults.so"
    command = [compiler, "-O1", "-shared", "-fPIC", "-o", library, HERE / "faults.c", "-ldl"]
    subprocess.run(command, check=True, timeout=60)
    return library
