"""Reading logs: lines with what is known of them, folding, ranges, following, display."""

from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cupola.logfile import follow_log, read_log, strip_controls
from cupola.loglines import Line, read_lines
from cupola.lognotes import RAW, STDERR, STDOUT, Note, encode_notes, log_path, notes_path

pytestmark = pytest.mark.feature("CORE-08")


def write_log(folder: Path, data: bytes, notes: list[Note] | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    log_path(folder).write_bytes(data)
    if notes is not None:
        notes_path(folder).write_bytes(encode_notes(notes, first=True))
    return folder


def test_lines_have_the_time_level_and_stream_of_their_notes(tmp_path: Path) -> None:
    notes = [(0, 4, 10.0, STDOUT, 0), (4, 10, 11.0, STDERR, 30), (0, 14, 12.0, RAW, 0), (14, 18, 13.0, STDOUT, 25)]
    write_log(tmp_path, b"one\nwarn!\nraw\nodd\nrest", notes)
    lines = list(read_log(tmp_path).lines())
    assert [(line.text, line.time, line.level, line.stream) for line in lines] == [
        ("one", 10.0, None, "stdout"),
        ("warn!", 11.0, "WARNING", "stderr"),
        ("raw", 12.0, None, None),
        ("odd", 13.0, "LEVEL 25", "stdout"),
        ("rest", 13.0, None, None),
    ]


def test_a_log_is_text_and_lines(tmp_path: Path) -> None:
    log = read_log(write_log(tmp_path, "één\ntwee\n".encode()))
    assert log == "één\ntwee"
    assert isinstance(log, str)
    assert "\n".join(log) == str(log)
    assert "twee" in log
    assert log.count("e") == 2
    assert [type(line) for line in log] == [Line, Line]
    assert log.tail(1) == ["twee"]


def test_a_run_without_a_log_has_an_empty_one(tmp_path: Path) -> None:
    assert read_log(tmp_path / "nowhere") == ""
    assert list(read_log(tmp_path / "nowhere")) == []


def test_a_step_is_the_ranges_of_its_attempts(tmp_path: Path) -> None:
    write_log(tmp_path, b"first\nother\nsecond\nlater\n")
    assert read_log(tmp_path, [(0, 0, 6), (0, 12, 19)]) == "first\nsecond"
    assert read_log(tmp_path, [(0, 12, None)]) == "second\nlater"
    assert read_log(tmp_path, [(0, 100, 200)]) == ""
    assert read_log(tmp_path, []) == ""


def test_progress_bars_are_folded_to_their_last_state(tmp_path: Path) -> None:
    bar = b"".join(b"\repoch 1: %d/20000" % i for i in range(20_001))
    write_log(tmp_path, bar + b"\n\r 50%\r100%\r\nwindows\r\ntrained")
    assert read_log(tmp_path) == "epoch 1: 20000/20000\n100%\nwindows\ntrained"


def test_bytes_that_are_no_text_are_shown_as_escapes(tmp_path: Path) -> None:
    assert read_log(write_log(tmp_path, b"a\xff\xfeb \xf0\x9f\x98\x8a\n\x00")) == "a\\xff\\xfeb \U0001f60a\n\x00"


def test_a_line_without_end_is_given_in_pieces_between_letters(tmp_path: Path) -> None:
    write_log(tmp_path, "é".encode() * 2_000_000)
    pieces = list(read_lines(tmp_path, [(0, None)]))
    assert len(pieces) > 1
    assert "".join(pieces) == "é" * 2_000_000


def test_a_long_log_is_cut_as_text_but_whole_as_lines(tmp_path: Path) -> None:
    write_log(tmp_path, b"".join(b"line %07d\n" % i for i in range(500_000)))
    log = read_log(tmp_path)
    assert log.startswith("line 0000000\n")
    assert log.endswith("line 0499999")
    assert "2.3 MB are left out here" in str(log)
    assert len(log) < 5_000_000
    assert "line 0400000" in log
    assert log.count("line") == 500_000
    assert log.tail(2) == ["line 0499998", "line 0499999"]
    assert len(log.tail(100_000)) == 100_000
    assert log.tail(0) == []


def test_a_log_is_found_after_its_run_was_sealed(tmp_path: Path) -> None:
    run = "0" * 32
    folder = write_log(tmp_path / "runs" / run, b"text\n")
    log = read_log(folder)
    target = tmp_path / "finished" / run[:6] / run
    target.parent.mkdir(parents=True)
    shutil.move(folder, target)
    assert list(log.lines()) == ["text"]
    assert read_log(folder) == "text"


def test_following_gives_lines_as_they_are_written_until_the_run_is_over(tmp_path: Path) -> None:
    is_over = threading.Event()
    lines = follow_log(tmp_path, lambda: [(0, 6, None)], is_over.is_set)
    write_log(tmp_path, b"other\nfirst\nsec", [(6, 12, 5.0, STDOUT, 0), (0, 15, 6.0, RAW, 0)])
    first = next(lines)
    assert (first, first.stream, first.time) == ("first", "stdout", 5.0)
    with log_path(tmp_path).open("ab") as file:
        file.write(b"ond\nlast")
    assert next(lines) == "second", "although no beat says that its notes are there"
    is_over.set()
    assert list(lines) == ["last"]


def test_following_a_step_ends_where_its_attempts_end(tmp_path: Path) -> None:
    write_log(tmp_path, b"one\nother\ntwo\nlater\n")
    known = iter([[(0, 0, None)], [(0, 0, 4)], [(0, 0, 4), (0, 10, None)]])
    now: list[tuple[int, int, int | None]] = [(0, 0, 4), (0, 10, 14)]
    over_at = time.monotonic() + 1.0
    lines = list(follow_log(tmp_path, lambda: next(known, now), lambda: time.monotonic() > over_at))
    assert lines == ["one", "two"]


def write_worker(folder: Path, worker: int, lines: list[tuple[bytes, float]]) -> None:
    at, notes, data = 0, [], b""
    for text, when in lines:
        data += text + b"\n"
        notes.append((at, len(data), when, STDOUT, 0))
        at = len(data)
    log_path(folder, worker).write_bytes(data)
    notes_path(folder, worker).write_bytes(encode_notes([*notes, (0, at, lines[-1][1], RAW, 0)], first=True))


@pytest.mark.feature("ENG-01")
def test_the_log_of_a_run_is_that_of_all_its_workers_by_time(tmp_path: Path) -> None:
    write_worker(tmp_path, 0, [(b"begin", 1.0), (b"end", 9.0)])
    write_worker(tmp_path, 2, [(b"two a", 2.0), (b"two b", 4.0), (b"two c", 4.0)])
    write_worker(tmp_path, 11, [(b"eleven", 3.5)])
    merged = ["begin", "two a", "eleven", "two b", "two c", "end"]
    log = read_log(tmp_path)
    assert log.splitlines() == merged
    assert list(log) == merged
    assert [line.time for line in log] == [1.0, 2.0, 3.5, 4.0, 4.0, 9.0]
    assert log.tail(3) == merged[-3:]
    assert read_log(tmp_path, [(2, 6, None), (0, 0, 6)]) == "two b\ntwo c\nbegin"
    assert list(follow_log(tmp_path, lambda: None, lambda: True)) == merged


@pytest.mark.feature("ENG-01")
def test_a_follower_meets_workers_that_begin_later(tmp_path: Path) -> None:
    write_worker(tmp_path, 0, [(b"begin", 1.0)])
    over = iter([False, False, True])

    def is_over() -> bool:
        answer = next(over)
        if answer is False and not log_path(tmp_path, 1).exists():
            write_worker(tmp_path, 1, [(b"late", 2.0)])
        return answer

    assert list(follow_log(tmp_path, lambda: None, is_over)) == ["begin", "late"]


@pytest.mark.feature("ENG-01")
def test_a_long_log_of_several_workers_has_a_beginning_and_an_end(tmp_path: Path) -> None:
    for worker in (1, 2):
        write_worker(tmp_path, worker, [(b"%d %0500d" % (worker, i), i + worker / 10) for i in range(6000)])
    log = read_log(tmp_path)
    assert "MB are left out here" in str(log)
    assert len(log) < 5_000_000
    assert str(log).startswith("1 0")
    assert log.splitlines()[-1].endswith("5999")
    assert [line[:1] for line in log.lines()] == ["1", "2"] * 6000
    assert [line[:1] for line in log.tail(4)] == ["1", "2", "1", "2"]


def test_following_a_run_that_never_prints_ends(tmp_path: Path) -> None:
    assert list(follow_log(tmp_path, lambda: [(0, 0, None)], lambda: True)) == []


@pytest.mark.parametrize(
    ("line", "with_colour", "without"),
    [
        ("plain [red] ünï", "plain [red] ünï", "plain [red] ünï"),
        ("\x1b[31mred\x1b[0m", "\x1b[31mred\x1b[0m", "red"),
        ("\x1b[31mleft on", "\x1b[31mleft on\x1b[0m", "left on"),
        ("a\x1b[2K\x1b[1Ab", "ab", "ab"),
        ("\x1b]0;title\x07text\x1b]8;;http://x\x1b\\link", "textlink", "textlink"),
        ("bell\x07 back\x08 tab\t", "bell back tab\t", "bell back tab\t"),
        ("\x9b31m c1 \x1bP evil \x1b\\ok\x1b", " c1 ok", " c1 ok"),
    ],
)
def test_only_colours_reach_a_terminal(line: str, with_colour: str, without: str) -> None:
    assert strip_controls(line, colour=True) == with_colour
    assert strip_controls(line, colour=False) == without


@given(st.text())
def test_nothing_that_controls_a_terminal_is_left(text: str) -> None:
    shown = strip_controls(text, colour=False)
    assert not any((ord(letter) < 32 and letter not in "\t\n") or 127 <= ord(letter) < 160 for letter in shown)


@given(st.lists(st.sampled_from([b"a", b"\r", b"\n", b"bc", "é".encode()]), max_size=40), st.integers(1, 7))
def test_lines_do_not_depend_on_where_blocks_end(
    tmp_path_factory: pytest.TempPathFactory, data: list[bytes], block: int
) -> None:
    import cupola.loglines as module

    folder = write_log(tmp_path_factory.mktemp("log"), b"".join(data))
    whole = list(read_lines(folder, [(0, None)]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK_BYTES", block)
        assert list(read_lines(folder, [(0, None)])) == whole
