"""The capture of what a run prints, shown by real processes: each test is a small script that runs under a capture."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import msgspec
import pytest

from cupola.logfile import read_log
from cupola.loglines import Line

pytestmark = pytest.mark.feature("CORE-08")

PRELUDE = """
import os, sys, pathlib
from cupola.middleware.capture import start_capture
folder = pathlib.Path(sys.argv[1])
"""
CAPTURED = """
capture = start_capture(folder)
try:
{body}
finally:
    capture.end_step()
    end = capture.position()
    capture.stop()
    (folder / "end").write_text(str(end))
"""


class Ran(msgspec.Struct):
    """What a script left: its run's folder, and what its terminal would have shown."""

    folder: Path
    code: int
    stdout: str
    stderr: str

    @property
    def lines(self) -> list[Line]:
        return list(read_log(self.folder).lines())


def run_script(folder: Path, script: str, **environment: str) -> Ran:
    (folder / "script.py").write_text(PRELUDE + script, encoding="utf-8")
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    done = subprocess.run(
        [sys.executable, folder / "script.py", folder],
        env={**kept, **environment},
        capture_output=True,
        encoding="utf-8",
        errors="backslashreplace",
        timeout=60,
        check=False,
    )
    return Ran(folder, done.returncode, done.stdout, done.stderr)


def run_step(folder: Path, body: str, **environment: str) -> Ran:
    """Run a body under a capture; the exit code must be 0."""
    ran = run_script(folder, CAPTURED.format(body=textwrap.indent(textwrap.dedent(body), "    ")), **environment)
    assert ran.code == 0, ran.stderr
    return ran


def test_order_and_streams_of_both_python_streams_are_kept(tmp_path: Path) -> None:
    ran = run_step(
        tmp_path,
        """
        print("one")
        print("two", file=sys.stderr)
        print("three\\nfour")
        sys.stdout.write("five, no newline")
        """,
    )
    assert [(line, line.stream) for line in ran.lines] == [
        ("one", "stdout"),
        ("two", "stderr"),
        ("three", "stdout"),
        ("four", "stdout"),
        ("five, no newline", "stdout"),
    ]
    assert ran.stdout == "one\nthree\nfour\nfive, no newline"
    assert ran.stderr == "two\n"


@pytest.mark.parametrize("environment", [{}, {"PYTHONUNBUFFERED": "1"}])
def test_prints_children_and_raw_bytes_keep_their_order(tmp_path: Path, environment: dict[str, str]) -> None:
    ran = run_step(
        tmp_path,
        """
        import subprocess
        print("first")
        subprocess.run(["echo", "child"])
        print("second", file=sys.stderr)
        os.system("echo shell")
        sys.stdout.buffer.write(b"bytes\\n")
        sys.stdout.flush()
        os.write(1, b"raw-\\xff\\xfe\\n")
        """,
        **environment,
    )
    assert [(line, line.stream) for line in ran.lines] == [
        ("first", "stdout"),
        ("child", None),
        ("second", "stderr"),
        ("shell", None),
        ("bytes", "stdout"),
        ("raw-\\xff\\xfe", None),
    ]


def test_very_many_prints_come_before_a_child_that_follows(tmp_path: Path) -> None:
    ran = run_step(
        tmp_path,
        """
        import subprocess
        for i in range(200_000):
            print("line", i)
        subprocess.run(["echo", "child"])
        print("end")
        """,
    )
    assert [str(line) for line in read_log(ran.folder).tail(3)] == ["line 199999", "child", "end"]
    assert sum(1 for line in ran.lines if line.stream == "stdout") == 200_001


@pytest.mark.parametrize("environment", [{}, {"PYTHONUNBUFFERED": "1"}])
def test_300_kb_from_c_code_that_holds_the_interpreter(tmp_path: Path, environment: dict[str, str]) -> None:
    ran = run_step(
        tmp_path,
        """
        import ctypes
        c = ctypes.PyDLL(None)
        print("before")
        for i in range(3000):
            c.printf(b"%0100d\\n", ctypes.c_int(i))
        c.printf(b"no newline")
        """,
        **environment,
    )
    lines = ran.lines
    assert lines[0] == "before"
    assert [int(line) for line in lines[1:-1]] == list(range(3000))
    assert (lines[-1], lines[-1].stream) == ("no newline", None)
    assert ran.stdout.endswith("no newline")


def test_what_c_held_back_before_the_run_is_not_in_it(tmp_path: Path) -> None:
    script = "import ctypes; c = ctypes.CDLL(None); c.printf(b'before\\n')\n" + CAPTURED.format(
        body="    c.printf(b'in it')"
    )
    assert run_script(tmp_path, script).stdout == "before\nin it"
    assert read_log(tmp_path) == "in it"


def test_position_counts_what_c_and_python_still_hold_back(tmp_path: Path) -> None:
    ran = run_step(
        tmp_path,
        """
        import ctypes
        ctypes.CDLL(None).printf(b"from c")
        first = capture.position()
        sys.stdout.write("from python")
        (folder / "at").write_text(f"{first} {capture.position()}")
        """,
    )
    assert (ran.folder / "at").read_text() == "6 17"
    assert read_log(ran.folder, [(0, 6, 17)]) == "from python"


def test_lines_of_eight_threads_stay_whole(tmp_path: Path) -> None:
    ran = run_step(
        tmp_path,
        """
        import logging, threading
        def work(thread):
            for i in range(500):
                print(f"print {thread} {i}")
                logging.getLogger("threads").warning("log %d %d", thread, i)
        threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
        [t.start() for t in threads]; [t.join() for t in threads]
        """,
    )
    text = read_log(ran.folder)
    assert all(text.count(f"{kind} {n} {i}\n") <= 1 for kind in ("print", "log") for n in range(8) for i in (0, 499))
    logged = [line for line in ran.lines if line.level == "WARNING"]
    assert len(logged) >= 3900, "a few may share a flush with a print of another thread"
    assert sorted(str(line) for line in ran.lines if line.startswith("log")) == sorted(
        f"log {n} {i}" for n in range(8) for i in range(500)
    )


def test_a_child_that_outlives_its_step_writes_on_into_the_log(tmp_path: Path) -> None:
    ran = run_step(
        tmp_path,
        """
        import subprocess
        gate = folder / "gate"
        subprocess.Popen(["sh", "-c", f'while [ ! -e "{gate}" ]; do sleep 0.02; done; echo late'])
        print("step")
        """,
    )
    end = int((ran.folder / "end").read_text())
    assert read_log(ran.folder, [(0, 0, end)]) == "step"
    (ran.folder / "gate").touch()
    deadline = time.monotonic() + 10
    while "late" not in read_log(ran.folder, [(0, end, None)]):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_100_mb_need_little_memory(tmp_path: Path) -> None:
    ran = run_step(
        tmp_path,
        """
        import resource
        peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        before = peak()
        line = "x" * 99
        for _ in range(1_000_000):
            print(line)
        capture.position()
        (folder / "used").write_text(str(peak() - before))
        """,
    )
    assert int((ran.folder / "used").read_text()) < 16 * 1024
    reader = """
    import resource
    from cupola.logfile import read_log
    peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    before = peak()
    log = read_log(folder)
    assert sum(len(line) for line in log) == 99_000_000
    print(peak() - before, len(log) < 5_000_000, "MB are left out" in str(log))
    """
    read = run_script(ran.folder, textwrap.dedent(reader))
    used, is_short, says_so = read.stdout.split()
    assert int(used) < 16 * 1024
    assert (is_short, says_so) == ("True", "True")


def test_letters_survive_an_ascii_locale(tmp_path: Path) -> None:
    ran = run_step(
        tmp_path,
        r"""
        import logging
        from cupola.middleware.records import get_logger
        get_logger("x").warning("na\u00efve \u6f22\u5b57 \U0001f60a")
        logging.warning("\u00fc-root")
        print("caf\u00e9 \udc80 \ud800")
        """,
        LC_ALL="C", LANG="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0", PYTHONIOENCODING="ascii",
    )  # fmt: skip
    assert [str(line) for line in ran.lines] == ["naïve 漢字 😊", "WARNING:root:ü-root", "café \\udc80 \\ud800"]


@pytest.mark.parametrize(
    "damage",
    [
        "sys.stdout.close()",
        "os.close(1)",
        "os.close(1); os.close(2)",
        "sys.stdout = None",
        "sys.stderr = open(os.devnull, 'w')",
        "os.dup2(os.open(os.devnull, os.O_WRONLY), 1)",
        "os.dup2(1, 2); sys.stdout = sys.stderr",
    ],
)
def test_a_step_that_breaks_its_streams_breaks_nothing_after_it(tmp_path: Path, damage: str) -> None:
    ran = run_step(
        tmp_path,
        f"""
        print("before")
        {damage}
        capture.end_step()
        print("after"); print("error", file=sys.stderr); os.write(1, b"raw\\n")
        """,
    )
    assert [str(line) for line in ran.lines] == ["before", "after", "error", "raw"]
    assert ran.stdout == "before\nafter\nraw\n"


def test_a_redirect_inside_a_step_is_the_steps_own(tmp_path: Path) -> None:
    ran = run_step(
        tmp_path,
        """
        import contextlib, io
        mine = io.StringIO()
        with contextlib.redirect_stdout(mine):
            print("kept for myself")
        assert mine.getvalue() == "kept for myself\\n"
        target = os.open(folder / "file", os.O_CREAT | os.O_RDWR)
        kept = os.dup(1)
        os.dup2(target, 1)
        print("into a file")
        sys.stdout.flush()
        os.dup2(kept, 1)
        print("into the log")
        """,
    )
    assert (ran.folder / "file").read_text() == "into a file\n"
    assert [(line, line.stream) for line in ran.lines] == [("into the log", "stdout")]


def test_streams_and_descriptors_are_as_before_afterwards(tmp_path: Path) -> None:
    ran = run_script(
        tmp_path,
        textwrap.dedent(
            """
            before = sys.stdout, sys.stderr, sys.breakpointhook, sorted(os.listdir("/proc/self/fd"))
            inode = os.fstat(1).st_ino
            for _ in range(3):
                capture = start_capture(folder)
                print("inside")
                assert capture.stop() == capture.stop() == capture.position()
            assert before == (sys.stdout, sys.stderr, sys.breakpointhook, sorted(os.listdir("/proc/self/fd")))
            assert os.fstat(1).st_ino == inode
            assert "logging" not in sys.modules and "threading" not in sys.modules
            print("outside")
            """
        ),
    )
    assert (ran.code, ran.stderr) == (0, "")
    assert ran.stdout == "inside\ninside\ninside\noutside\n"
    assert read_log(ran.folder) == "inside\ninside\ninside"


@pytest.mark.parametrize("secured", [False, True])
def test_a_program_without_standard_streams_runs(tmp_path: Path, secured: bool) -> None:
    securing = "from cupola.middleware.terminal import secure_descriptors; secure_descriptors()\n"
    (tmp_path / "script.py").write_text(
        PRELUDE
        + securing * secured
        + CAPTURED.format(body="    print('text'); os.write(1, b'raw\\n'); os.system('echo child')")
    )
    done = subprocess.run(
        ["sh", "-c", f'exec "{sys.executable}" "{tmp_path}/script.py" "{tmp_path}" >&- 2>&- <&-'],
        timeout=60,
        check=False,
    )
    assert done.returncode == 0
    assert read_log(tmp_path) == "text\nraw\nchild"


def test_a_python_level_redirect_around_the_run_still_gets_the_text(tmp_path: Path) -> None:
    ran = run_script(
        tmp_path,
        textwrap.dedent(
            """
            import contextlib, io
            with contextlib.redirect_stdout(io.StringIO()) as outer:
                capture = start_capture(folder)
                print("shown thére")
                os.system("echo child")
                print("err", file=sys.stderr)
                capture.stop()
                assert sys.stdout is outer
            assert outer.getvalue() == "shown thére\\n", outer.getvalue()
            """
        ),
    )
    assert (ran.code, ran.stdout, ran.stderr) == (0, "child\n", "err\n")
    assert read_log(ran.folder) == "shown thére\nchild\nerr"


def test_capturing_inside_pytest_shows_in_its_capture(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from cupola.middleware.capture import start_capture

    capture = start_capture(tmp_path)
    print("python")
    os.write(1, b"raw\n")
    print("error", file=sys.stderr)
    capture.stop()
    assert read_log(tmp_path) == "python\nraw\nerror"
    assert capfd.readouterr() == ("python\nraw\n", "error\n")


def test_capturing_inside_pytest_shows_in_capsys(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from cupola.middleware.capture import start_capture

    capture = start_capture(tmp_path)
    print("python")
    print("error", file=sys.stderr)
    capture.stop()
    assert read_log(tmp_path) == "python\nerror"
    assert capsys.readouterr() == ("python\n", "error\n")


def test_a_run_inside_a_step_has_its_own_log_and_is_part_of_the_outer_one(tmp_path: Path) -> None:
    ran = run_step(
        tmp_path,
        """
        import logging
        print("outer before")
        (folder / "inner").mkdir()
        inner = start_capture(folder / "inner")
        print("inner"); logging.getLogger("in").warning("warned")
        inner.stop()
        print("outer after")
        """,
    )
    assert read_log(ran.folder / "inner") == "inner\nwarned"
    assert [str(line) for line in ran.lines] == ["outer before", "inner", "warned", "outer after"]
    assert ran.stdout + ran.stderr == "outer before\ninner\nouter after\nwarned\n"


def test_forked_workers_print_into_the_log_once(tmp_path: Path) -> None:
    ran = run_step(
        tmp_path,
        """
        import multiprocessing, warnings
        warnings.simplefilter("error")
        def work(i): print("worker", i)
        print("pending", end=" ")
        children = [multiprocessing.get_context("fork").Process(target=work, args=(i,)) for i in range(4)]
        [c.start() for c in children]; [c.join() for c in children]
        print("done")
        """,
    )
    text = read_log(ran.folder)
    assert [text.count(f"worker {i}") for i in range(4)] == [1, 1, 1, 1]
    assert (text.count("pending"), text.count("done")) == (1, 1)
    assert ran.lines[-1] == "done"


@pytest.mark.parametrize("death", ["os.kill(os.getpid(), 9)", "os._exit(3)", "import ctypes; ctypes.string_at(0)"])
def test_a_killed_step_keeps_its_last_lines(tmp_path: Path, death: str) -> None:
    ran = run_script(tmp_path, f"capture = start_capture(folder)\nfor i in range(100): print('line', i)\n{death}\n")
    assert ran.code != 0
    assert [str(line) for line in ran.lines] == [f"line {i}" for i in range(100)]


def test_what_is_printed_shows_while_the_step_goes_on(tmp_path: Path) -> None:
    body = "    print('prompt', end=''); sys.stdin.readline()"
    (tmp_path / "script.py").write_text(PRELUDE + CAPTURED.format(body=body))
    with subprocess.Popen(
        [sys.executable, tmp_path / "script.py", tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        assert child.stdin is not None
        assert os.read(child.stdout.fileno(), 100) == b"prompt"
        child.stdin.write(b"\n")
        child.stdin.close()
        assert child.wait(timeout=10) == 0


def test_a_sink_shows_output_instead_of_the_terminal_and_may_fail(tmp_path: Path) -> None:
    ran = run_script(
        tmp_path,
        textwrap.dedent(
            """
            class Sink:
                parts = []
                def write(self, data, stream):
                    self.parts.append((data, stream))
                    if data == b"last\\n": raise ValueError
            capture = start_capture(folder, Sink())
            print("a"); print("b"); print("c", file=sys.stderr); os.write(1, b"d\\n")
            capture.stop()
            assert Sink.parts == [(b"a\\nb\\n", 1), (b"c\\n", 2), (b"d\\n", 0)], Sink.parts
            capture = start_capture(folder, Sink())
            print("last")
            capture.stop()
            """
        ),
    )
    assert (ran.code, ran.stdout, ran.stderr) == (0, "", "")


def test_what_reports_a_step_comes_after_what_the_step_printed(tmp_path: Path) -> None:
    ran = run_script(
        tmp_path,
        textwrap.dedent(
            """
            terminal = os.dup(1)
            capture = start_capture(folder)
            for i in range(3):
                capture.when_shown(lambda i=i: os.write(terminal, b"start %d\\n" % i))
                print("print", i); os.system(f"echo child {i}")
                capture.when_shown(lambda i=i: os.write(terminal, b"end %d\\n" % i))
            capture.stop()
            """
        ),
    )
    expected = "".join(f"start {i}\nprint {i}\nchild {i}\nend {i}\n" for i in range(3))
    assert (ran.stdout, ran.stderr) == (expected, "")


def test_input_shows_its_prompt_and_reads_the_answer(tmp_path: Path) -> None:
    body = "    print('got', input('name? '))"
    (tmp_path / "script.py").write_text(PRELUDE + CAPTURED.format(body=body))
    done = subprocess.run(
        [sys.executable, tmp_path / "script.py", tmp_path],
        input="Ada\n", capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "name? got Ada\n")


def test_a_breakpoint_gets_the_terminal(tmp_path: Path) -> None:
    script = CAPTURED.format(body="    secret = 41\n    breakpoint()\n    print('on with it')\n    x = 1")
    (tmp_path / "script.py").write_text(PRELUDE + script)
    done = subprocess.run(
        [sys.executable, tmp_path / "script.py", tmp_path],
        input="p secret + 1\nc\n", capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "(Pdb) 42" in done.stdout
    assert "script.py" in done.stdout
    assert "on with it" in done.stdout
    assert "42" not in read_log(tmp_path)


def test_a_reader_that_has_gone_does_not_end_the_run(tmp_path: Path) -> None:
    body = "    for i in range(50_000): print('line', i)\n    print('end')"
    (tmp_path / "script.py").write_text(PRELUDE + CAPTURED.format(body=body))
    done = subprocess.run(
        ["bash", "-c", f'set -o pipefail; "{sys.executable}" "{tmp_path}/script.py" "{tmp_path}" | head -n 1'],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "line 0\n", "")
    assert read_log(tmp_path).tail(1) == ["end"]


def test_a_reader_that_is_slow_does_not_block_the_writer(tmp_path: Path) -> None:
    body = "    print('x' * 3_000_000)\n    open(folder / 'through', 'w').close()"
    (tmp_path / "script.py").write_text(PRELUDE + CAPTURED.format(body=body))
    with subprocess.Popen([sys.executable, tmp_path / "script.py", tmp_path], stdout=subprocess.PIPE) as child:
        deadline = time.monotonic() + 20
        while not (tmp_path / "through").exists():
            assert time.monotonic() < deadline, "the step waits for who reads its output"
            time.sleep(0.02)
        output, _ = child.communicate(timeout=20)
    assert len(output) == 3_000_001


def test_a_limit_on_file_sizes_costs_log_but_not_the_step(tmp_path: Path) -> None:
    ran = run_step(
        tmp_path,
        """
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
        for i in range(1000): print("line", i)
        sys.stdout.flush()
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        print(*capture.warnings)
        """,
    )
    assert ran.lines[0] == "line 0"
    assert str(ran.lines[-1]).endswith("a part of the log could not be written: File too large")
