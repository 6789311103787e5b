"""How a run shows itself: plain lines, and the live block in a real pseudo-terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import textwrap
import time
from pathlib import Path

import pytest

from cupola.engine.display import make_reporter
from cupola.engine.live import Block
from cupola.engine.reporter import LISTED, Plain, step_line
from cupola.entities.run import Failure, RunStatus, StepStatus
from cupola.errors import ConfigError

PROGRAM = """
import sys, time
from cupola import pipeline, step

@step(cache=False)
def talk(n: int) -> int:
    for i in range(n):
        print(f"line {i} 漢字")
    sys.stdout.write("no end")
    time.sleep(0.3)
    return n

@step(cache=False)
def bar(n: int) -> int:
    for i in range(n):
        sys.stderr.write(f"\\rprogress {i}/{n}")
        time.sleep(0.01)
    sys.stderr.write(f"\\rprogress {n}/{n}\\n")
    return n

@pipeline
def shown() -> int:
    return bar(talk(3) and 20)

@pipeline
def wired() -> int:
    bar(20)
    return talk(3)

if __name__ == "__main__":
    wired()
"""


class Page:
    """A screen that keeps what was written."""

    def __init__(self, columns: int = 40) -> None:
        self.text = ""
        self.columns = columns
        self.unicode = True
        self.is_terminal = True
        self.is_closed = False

    def write(self, text: str) -> None:
        self.text += text

    def write_bytes(self, data: bytes) -> None:
        self.text += data.decode()

    def width(self) -> int:
        return self.columns

    def close(self) -> None:
        self.is_closed = True


def rows_of(text: str, columns: int) -> list[str]:
    """Return what a terminal of so many columns would show of a text with our few movements."""
    rows, at = [""], 0
    for part in re.split(r"(\x1b\[[0-9;?]*[A-Za-z]|\r|\n)", text):
        if part == "\n":
            at += 1
            if at == len(rows):
                rows.append("")
        elif part == "\r":
            continue
        elif up := re.fullmatch(r"\x1b\[(\d+)A", part):
            at = max(0, at - int(up[1]))
        elif part == "\x1b[J":
            del rows[at:]
            rows.append("")
        elif part.startswith("\x1b"):
            continue
        elif part:
            rows[at] += part
    return rows


def in_terminal(program: Path, *, columns: int, home: Path, timeout_s: float = 60, **environment: str) -> str:
    """Run a program in a pseudo-terminal and return all that it wrote there."""
    parent, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = subprocess.Popen(
        [sys.executable, program],
        stdin=child,
        stdout=child,
        stderr=child,
        cwd=program.parent,
        # The terminal's own width holds; the runner of the tests may say another one in COLUMNS.
        env={key: text for key, text in os.environ.items() if key != "COLUMNS"}
        | {"TERM": "xterm", "CUPOLA_HOME": str(home), **environment},
        close_fds=True,
    )
    os.close(child)
    written = b""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        ready, _, _ = select.select([parent], [], [], 0.5)
        if not ready:
            continue
        try:
            data = os.read(parent, 65536)
        except OSError:
            break
        if not data:
            break
        written += data
    os.close(parent)
    assert process.wait(10) == 0
    return written.decode()


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "go.py"
    path.write_text(textwrap.dedent(PROGRAM), encoding="utf-8")
    return path


@pytest.mark.feature("CORE-09")
def test_in_a_terminal_steps_and_output_scroll_and_the_block_goes_away(program, home):
    text = in_terminal(program, columns=60, home=home)
    assert "\x1b[J" in text
    shown = [row.rstrip() for row in rows_of(text, 60) if row.strip()]
    assert shown[0].startswith("run wired-")
    # Two steps run at once, so each line says whose it is.
    assert "[talk] line 0 漢字" in shown
    assert "[talk] line 2 漢字" in shown
    assert {"no end", "[talk] no end"} & set(shown)
    assert {"progress 20/20", "[bar] progress 20/20"} & set(shown)
    assert not any("progress 3/20" in row for row in shown)
    assert sum("✓ talk" in row for row in shown) == 1
    assert "completed in" in shown[-1]
    # While it went on, the block said what was running.
    assert re.search(r"[⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏] talk", text)
    assert "1/2 steps" in text


@pytest.mark.feature("CORE-09")
@pytest.mark.parametrize("environment", [{"TERM": "dumb"}, {"CUPOLA_PROGRESS": "plain"}])
def test_a_dumb_terminal_gets_plain_lines(program, home, environment):
    text = in_terminal(program, columns=60, home=home, **environment)
    assert "\x1b[" not in text
    assert "✓ talk" in text


@pytest.mark.feature("CORE-09")
def test_a_block_line_never_fills_the_width(program, home):
    text = in_terminal(program, columns=20, home=home)
    for block in re.findall(r"\x1b\[J(.*?)(?=\r?\x1b\[\d+A)", text, re.DOTALL):
        last = block.rstrip("\r\n").split("\n")[-1].strip("\r")
        assert len(last) < 20, last


@pytest.mark.feature("CORE-09")
def test_a_narrower_window_is_erased_by_the_rows_it_takes_then():
    page = Page(columns=60)
    block = Block(page)
    block.title = "a title that takes some forty columns here"
    block.steps = 3
    block.update()
    page.columns = 20
    page.text = ""
    block._drawn_at = 0.0
    block.update()
    up = re.search(r"\x1b\[(\d+)A", page.text)
    assert up is not None
    assert int(up[1]) >= 3
    block.close()
    assert page.is_closed


@pytest.mark.feature("CORE-09", "CORE-12")
def test_moves_of_the_cursor_in_output_dont_reach_the_terminal():
    page = Page()
    block = Block(page)
    block.title = "t"
    block.write("a\x1b[2Jb\x1b[5Ac \x1b[31mred\n")
    block.close()
    assert "\x1b[2J" not in page.text
    assert "\x1b[5A" not in page.text
    assert "abc \x1b[31mred" in page.text


@pytest.mark.feature("CORE-09")
def test_plain_lines_of_a_long_run_are_few():
    page = Page()
    plain = Plain(page)
    plain.run_started("r", "id", "p", 1000)
    for number in range(1000):
        plain.step_started(f"s{number}", 1)
        plain.step_finished(f"s{number}", StepStatus.COMPLETED, 2.5 if number == 900 else 0.001)
    plain.step_finished("bad", StepStatus.FAILED, 0.1, "ValueError: x")
    plain.run_finished(RunStatus.FAILED, 3.0)
    lines = page.text.splitlines()
    assert len(lines) < 2 * LISTED + 10
    assert any("s900" in line for line in lines)
    assert "✗ bad  failed after 0.10 s: ValueError: x" in lines[-2]
    assert lines[-1] == "run r failed in 3.0 s (1000 completed, 1 failed)"


@pytest.mark.feature("CORE-09")
def test_a_line_of_ours_never_continues_one_of_the_users():
    page = Page()
    plain = Plain(page)
    plain.echo(b"no end")
    plain.step_retrying("s", 1, Failure("ValueError", "a\x1b[2J\nb"), 0.5)
    plain.warn("careful")
    assert page.text.splitlines() == [
        "no end",
        "  ↻ s failed in attempt 1, next one in 0.50 s: ValueError: a\\x1b[2J\\x0ab",
        "  ! careful",
    ]


@pytest.mark.feature("CORE-12")
def test_names_are_shown_without_control_characters():
    assert step_line("a\x1b[2J\nb", StepStatus.SKIPPED, 0.0) == "- a\\x1b[2J\\x0ab  skipped"


@pytest.mark.feature("CORE-09")
def test_the_setting_decides_and_a_wrong_word_is_an_error(monkeypatch):
    monkeypatch.setenv("CUPOLA_PROGRESS", "off")
    silent = make_reporter()
    assert type(silent).__name__ == "Silent"
    silent.close()
    monkeypatch.setenv("CUPOLA_PROGRESS", "loud")
    with pytest.raises(ConfigError, match="CUPOLA_PROGRESS='loud'"):
        make_reporter()


@pytest.mark.feature("CORE-09")
def test_a_step_that_waits_for_its_next_attempt_shows_how_long_yet():
    page = Page(columns=80)
    block = Block(page)
    block.title = "t"
    block.running["s"] = 2, time.monotonic() + 30.9
    block.update()
    block.close()
    assert re.search(r"s  waiting 30\.\d s \(attempt 2\)", page.text), page.text
