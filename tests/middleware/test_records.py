"""Records of `logging` come into the log exactly once, whatever a step does to logging."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest
from tests.middleware.test_logs import run_script, run_step

from cupola.logfile import read_log

pytestmark = pytest.mark.feature("CORE-08")


def test_records_come_once_through_any_configuration_in_three_runs(tmp_path: Path) -> None:
    ran = run_script(
        tmp_path,
        textwrap.dedent(
            """
            import logging
            for i in range(3):
                (folder / str(i)).mkdir()
                capture = start_capture(folder / str(i))
                from logging.config import dictConfig
                logging.basicConfig(level=logging.INFO, force=True, format="%(levelname)s|%(message)s")
                logging.getLogger(f"lib.part{i}").info("only-once")
                logging.info("root-once")
                dictConfig({"version": 1, "disable_existing_loggers": True})
                logging.getLogger(f"later{i}").error("after-config")
                capture.stop()
            """
        ),
    )
    assert ran.code == 0, ran.stderr
    for i in range(3):
        lines = list(read_log(tmp_path / str(i)).lines())
        assert [(line, line.level) for line in lines] == [
            ("INFO|only-once", "INFO"),
            ("INFO|root-once", "INFO"),
            ("ERROR|after-config", "ERROR"),
        ]


@pytest.mark.parametrize(
    ("setup", "expected"),
    [
        ("", ["warned"]),
        ("logging.basicConfig(stream=sys.stdout, format='out %(message)s')", ["out warned"]),
        ("logging.basicConfig(filename=folder / 'other')", ["WARNING lib: warned"]),
        ("log.propagate = False; log.addHandler(logging.NullHandler())", ["WARNING lib: warned"]),
        ("h = logging.Handler(); h.emit = lambda r: print('mine', r.msg); log.addHandler(h)", ["mine warned"]),
        ("log.addHandler(logging.StreamHandler(io.StringIO()))", ["WARNING lib: warned"]),
        ("logging.basicConfig(level=logging.ERROR); log.setLevel(10)", ["WARNING:lib:warned"]),
        ("log.setLevel(logging.ERROR)", []),
        ("logging.disable(logging.ERROR)", []),
        ("log.disabled = True", []),
    ],
)  # fmt: skip
def test_a_record_comes_once_whoever_prints_it(tmp_path: Path, setup: str, expected: list[str]) -> None:
    body = f"import io, logging\nlog = logging.getLogger('lib')\n{setup}\nlog.warning('warned')"
    ran = run_step(tmp_path, body)
    assert [str(line) for line in ran.lines] == expected
    assert all(line.level == "WARNING" for line in ran.lines)


def test_handlers_from_before_the_run_print_into_it(tmp_path: Path) -> None:
    ran = run_script(
        tmp_path,
        textwrap.dedent(
            """
            import logging
            logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
            handlers = logging.root.handlers[:]
            logging.info("before")
            capture = start_capture(folder)
            logging.info("inside\\nof it")
            print("print")
            capture.stop()
            logging.info("after")
            assert logging.root.handlers == handlers and logging.root.level == logging.INFO
            assert "cupola" not in logging.Logger.callHandlers.__module__
            """
        ),
    )
    assert (ran.code, ran.stderr) == (0, "INFO before\nINFO inside\nof it\nINFO after\n")
    assert [(line, line.level, line.stream) for line in ran.lines] == [
        ("INFO inside", "INFO", "stderr"),
        ("of it", "INFO", "stderr"),
        ("print", None, "stdout"),
    ]


def test_handlers_that_a_step_made_go_on_after_the_run(tmp_path: Path) -> None:
    ran = run_script(
        tmp_path,
        textwrap.dedent(
            """
            import logging
            log = logging.getLogger("kept")
            for i in range(3):
                (folder / str(i)).mkdir()
                capture = start_capture(folder / str(i))
                if i == 0:
                    log.addHandler(logging.StreamHandler())
                    log.addHandler(logging.StreamHandler(sys.stdout))
                log.warning("run %d", i)
                capture.stop()
            log.warning("over")
            """
        ),
    )
    assert ran.code == 0, ran.stderr
    assert ran.stdout == ran.stderr == "run 0\nrun 1\nrun 2\nover\n"
    for i in range(3):
        assert read_log(tmp_path / str(i)) == f"run {i}\nrun {i}"


def test_get_logger_writes_info_although_the_root_shows_warnings(tmp_path: Path) -> None:
    ran = run_script(
        tmp_path,
        textwrap.dedent(
            """
            from cupola.middleware.records import get_logger
            import logging
            log = get_logger("train")
            assert log is logging.getLogger("train")
            log.info("outside before")
            capture = start_capture(folder)
            log.info("inside %d", 1)
            log.debug("too low")
            get_logger("late").info("late")
            logging.getLogger("other").info("not of get_logger")
            capture.stop()
            log.info("outside after")
            assert (log.level, logging.root.level, logging.root.handlers) == (0, logging.WARNING, [])
            """
        ),
    )
    assert (ran.code, ran.stdout) == (0, ""), ran.stderr
    assert ran.stderr == "INFO train: inside 1\nINFO late: late\n"
    assert [(line, line.level) for line in ran.lines] == [("INFO train: inside 1", "INFO"), ("INFO late: late", "INFO")]


def test_cupola_log_level_opens_and_closes_get_logger(tmp_path: Path) -> None:
    body = """
    from cupola.middleware.records import get_logger
    log = get_logger("train")
    log.debug("d"); log.info("i"); log.error("e")
    """
    for level, expected in (("debug", 3), ("error", 1)):
        folder = tmp_path / level
        folder.mkdir()
        assert len(run_step(folder, body, CUPOLA_LOG_LEVEL=level).lines) == expected


def test_logging_that_is_imported_during_a_step_is_heard(tmp_path: Path) -> None:
    ran = run_step(
        tmp_path,
        """
        assert "logging" not in sys.modules
        import logging
        logging.root.setLevel(10)
        logging.getLogger("a").info("heard")
        """,
    )
    assert [(line, line.level) for line in ran.lines] == [("INFO a: heard", "INFO")]


def test_a_record_has_its_exact_time_and_its_traceback(tmp_path: Path) -> None:
    ran = run_step(
        tmp_path,
        """
        import logging
        log = logging.getLogger("a")
        class Keep(logging.Handler):
            def emit(self, record): (folder / "time").write_text(repr(record.created))
        log.addHandler(Keep())
        try:
            1 / 0
        except ZeroDivisionError:
            log.exception("failed %s %d", "x")
        """,
    )
    assert ran.lines[0].startswith("ERROR a: failed")
    assert ran.lines[0].time == float((tmp_path / "time").read_text())
    assert {line.level for line in ran.lines} == {"ERROR"}


def test_warnings_and_uncaught_errors_of_threads_are_kept(tmp_path: Path) -> None:
    ran = run_step(
        tmp_path,
        """
        import threading, warnings
        warnings.warn("careful")
        def fail(): raise ValueError("in a thread")
        thread = threading.Thread(target=fail); thread.start(); thread.join()
        """,
    )
    text = read_log(ran.folder)
    assert "UserWarning: careful" in text
    assert "ValueError: in a thread" in text
    assert {line.stream for line in ran.lines} == {"stderr"}


def test_a_forked_child_logs_into_the_log(tmp_path: Path) -> None:
    ran = run_step(
        tmp_path,
        """
        import logging, multiprocessing
        from cupola.middleware.records import get_logger
        def work(): get_logger("w").info("from the child")
        child = multiprocessing.get_context("fork").Process(target=work); child.start(); child.join()
        """,
    )
    assert [str(line) for line in ran.lines] == ["INFO w: from the child"]
