"""The command line as people use it: real processes, real stores, their output, errors and exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from cupola import Client

Cupola = Callable[..., subprocess.CompletedProcess[str]]

PROGRAM = """
from typing import Annotated
from cupola import log_metadata, pipeline, step

FACTOR = 2

@step
def load(rows: int) -> list[int]:
    print("loading", rows)
    return list(range(rows))

@step
def total(values: list[int]) -> int:
    log_metadata({"accuracy": 0.75, "odd": float("nan")})
    return sum(values) * FACTOR

@pipeline(tags=["demo"])
def training(rows: int = 4) -> Annotated[int, "total"]:
    return total(load(rows))
"""
FAILING = """
from cupola import pipeline, step

@step
def load() -> int:
    return 1

def helper(value):
    return value // 0

@step
def divide(value: int) -> int:
    print("about to divide")
    return helper(value)

@step
def after(value: int) -> int:
    return value

@pipeline
def breaking() -> int:
    return after(divide(load()))

@pipeline
def fine() -> int:
    return load()
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "go.py").write_text(textwrap.dedent(PROGRAM))
    (tmp_path / "bad.py").write_text(textwrap.dedent(FAILING))
    return tmp_path


@pytest.fixture
def recorded(project: Path, run_cupola: Cupola) -> str:
    """Return the name of a run of `go.py`."""
    done = run_cupola("run", "go.py")
    assert done.returncode == 0, done.stderr
    return Client().runs.list(limit=1)[0].name


def strict(text: str):
    """Read JSON as a parser that knows no NaN does."""

    def refuse(word: str):
        raise AssertionError(f"{word} is no JSON")

    return json.loads(text, parse_constant=refuse)


def two_lines(done: subprocess.CompletedProcess[str], code: int) -> str:
    assert done.returncode == code, (done.returncode, done.stderr)
    assert "Traceback" not in done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 2, lines
    assert lines[0].startswith("error: ")
    return done.stderr


@pytest.mark.feature("CORE-09")
def test_a_run_shows_plain_lines_and_what_to_look_at(project, run_cupola):
    done = run_cupola("run", "go.py", "--param", "rows=5")
    assert done.returncode == 0
    assert done.stdout == "loading 5\n"
    assert "training started: 2 steps" in done.stderr
    assert "✓ load" in done.stderr
    assert "\x1b" not in done.stderr
    run = Client().runs.list()[0]
    assert f"see it: cupola show {run.name}" in done.stderr
    assert run.params == {"rows": 5}
    again = run_cupola("run", "go.py", "--param", "rows=5")
    assert "= load  cached" in again.stderr


@pytest.mark.feature("CORE-09")
def test_progress_can_be_turned_off(project, run_cupola):
    done = run_cupola("run", "go.py", CUPOLA_PROGRESS="off")
    assert done.stdout == "loading 4\n"
    assert "✓" not in done.stderr


@pytest.mark.feature("CORE-04", "CORE-09")
def test_a_failed_run_shows_the_users_traceback_once_and_ends_with_1(project, run_cupola):
    done = run_cupola("run", "bad.py:breaking")
    assert done.returncode == 1
    assert done.stderr.count("Traceback") == 1
    assert done.stderr.count("return value // 0") == 1
    assert "cupola/engine" not in done.stderr
    assert "cupola/cli" not in done.stderr
    run = Client().runs.list()[0]
    assert done.stderr.splitlines()[-2] == (
        f"error: run {run.name} failed in step 'divide': ZeroDivisionError: integer division or modulo by zero"
    )
    assert f"cupola show {run.name}" in done.stderr.splitlines()[-1]
    shown = run_cupola("show", run.name)
    assert "divide failed at bad.py:9 in helper" in shown.stdout
    assert f"cupola logs {run.name} divide" in shown.stdout
    assert run_cupola("logs", run.name, "divide").stdout == "about to divide\n"


@pytest.mark.feature("CORE-09")
def test_json_of_a_run_is_alone_on_standard_output(project, run_cupola):
    done = run_cupola("run", "go.py", "--json")
    shown = strict(done.stdout)
    assert shown["status"] == "completed"
    assert shown["params"] == {"rows": 4}
    assert shown["outputs"]["total"]["preview"] == "12"
    assert [step["name"] for step in shown["steps"]] == ["load", "total"]
    assert shown["steps"][1]["metadata"] == {"accuracy": 0.75, "odd": "NaN"}
    assert "loading 4" in done.stderr
    assert strict(run_cupola("run", "bad.py:breaking", "--json").stdout)["status"] == "failed"


@pytest.mark.feature("CORE-09")
def test_plan_says_what_would_run_and_why_and_runs_nothing(project, run_cupola, recorded, rewrite):
    done = run_cupola("plan", "go.py")
    assert done.returncode == 0
    assert "2 cached" in done.stderr
    rewrite(project / "go.py", PROGRAM.replace("FACTOR = 2", "FACTOR = 3"))
    done = run_cupola("plan", "go.py")
    assert "constant" in done.stdout
    assert "go.py:5" in done.stdout
    assert "2 → 3" in done.stdout
    plan = strict(run_cupola("plan", "go.py", "--json").stdout)
    assert [(step["name"], step["action"]) for step in plan["steps"]] == [("load", "cached"), ("total", "run")]
    cause = plan["steps"][1]["causes"][0]
    assert (cause["kind"], cause["file"], cause["old"], cause["new"]) == ("constant", "go.py", "2", "3")
    assert len(Client().runs.list()) == 1
    why = strict(run_cupola("plan", "go.py", "--why", "total", "--json").stdout)
    assert why["causes"] == plan["steps"][1]["causes"]


@pytest.mark.feature("CORE-07", "CORE-09")
def test_why_names_the_run_or_what_had_changed(project, run_cupola, recorded, rewrite):
    rewrite(project / "go.py", PROGRAM.replace("FACTOR = 2", "FACTOR = 3"))
    assert run_cupola("run", "go.py").returncode == 0
    hit = run_cupola("show", "last", "--why", "load")
    assert hit.stdout.startswith("load: hit\n")
    first = Client().runs.get(recorded)
    assert first.id in hit.stdout
    miss = run_cupola("show", "last", "--why", "total")
    assert miss.stdout.startswith("total: miss\n")
    assert "go.py:5" in miss.stdout
    why = strict(run_cupola("show", "last", "--why", "total", "--json").stdout)
    assert set(why) == {"hit", "from_run", "age_s", "saved_s", "causes"}
    assert not why["hit"]
    assert set(why["causes"][0]) == {"kind", "name", "file", "line", "old", "new", "step"}
    assert why["causes"][0]["kind"] == "constant"


@pytest.mark.feature("CORE-09")
def test_lists_show_tables_json_and_that_they_were_cut(project, run_cupola, recorded):
    assert run_cupola("run", "bad.py:breaking").returncode == 1
    done = run_cupola("runs", "list")
    assert done.stdout.splitlines()[0].split() == ["name", "status", "started", "took", "steps", "id"]
    assert len(done.stdout.splitlines()) == 3
    cut = run_cupola("runs", "list", "--limit", "1")
    assert "there are more" in cut.stderr
    assert len(strict(run_cupola("runs", "list", "--limit", "1", "--json").stdout)) == 1
    assert len(strict(run_cupola("runs", "list", "--all", "--json").stdout)) == 2
    failed = strict(run_cupola("runs", "list", "--status", "failed,lost", "--since", "1h", "--json").stdout)
    assert [run["pipeline"] for run in failed] == ["breaking"]
    assert failed[0]["error"]["type"] == "ZeroDivisionError"
    assert strict(run_cupola("runs", "list", "--tag", "demo", "--json").stdout)[0]["name"] == recorded
    assert strict(run_cupola("runs", "list", "--pipeline", "nothing", "--json").stdout) == []
    steps = strict(run_cupola("steps", "list", "--metadata", "accuracy>0.5", "--json").stdout)
    assert [step["name"] for step in steps] == ["total"]
    ordered = strict(run_cupola("runs", "list", "--sort", "-started", "--json").stdout)
    assert ordered[0]["pipeline"] == "breaking"


@pytest.mark.feature("CORE-09")
def test_ps_lists_what_is_active_only(project, run_cupola, recorded):
    done = run_cupola("ps")
    assert done.returncode == 0
    assert done.stdout == ""
    assert "no runs match" in done.stderr
    assert run_cupola("ps", "--json").stdout == "[]\n"
    assert recorded in run_cupola("ps", "--all").stdout


@pytest.mark.feature("CORE-09")
def test_each_resource_lists_and_shows(project, run_cupola, recorded):
    for words in (
        ["runs", "show", recorded],
        ["show", recorded],
        ["show", "last", "total"],
        ["steps", "show", f"{recorded}/total"],
        ["steps", "list"],
        ["pipelines", "list"],
        ["pipelines", "show", "training"],
        ["artifacts", "list"],
        ["artifacts", "list", "--versions"],
        ["artifacts", "show", "training/total/output"],
        ["artifacts", "show", "training/total/output:1", "--lineage"],
        ["show", "last", "--graph"],
        ["diff", recorded, "last"],
        ["logs", "last"],
    ):
        shown = run_cupola(*words)
        assert shown.returncode == 0, (words, shown.stderr)
        assert shown.stdout, words
        strict(run_cupola(*words, "--json").stdout)


@pytest.mark.feature("CORE-09")
def test_readers_never_import_the_users_project(project, run_cupola, recorded):
    (project / "go.py").write_text("raise SystemExit('imported')\n")
    for words in (["show", "last"], ["logs", "last"], ["runs", "list"], ["artifacts", "show", "training/total/output"]):
        done = run_cupola(*words)
        assert done.returncode == 0
        assert "imported" not in done.stderr


@pytest.mark.feature("CORE-09")
def test_logs_are_printed_as_written_with_times_and_as_json(project, run_cupola, recorded):
    assert run_cupola("logs", recorded).stdout == "loading 4\n"
    timed = run_cupola("logs", recorded, "load", "--times").stdout
    assert "stdout" in timed
    assert timed.endswith("loading 4\n")
    (line,) = strict(run_cupola("logs", recorded, "--json").stdout)
    assert (line["text"], line["stream"], line["level"]) == ("loading 4", "stdout", None)
    followed = run_cupola("logs", recorded, "-f", "--json").stdout
    assert strict(followed)["text"] == "loading 4"
    assert run_cupola("run", "go.py").returncode == 0
    cached = run_cupola("logs", "last", "load")
    assert cached.stdout == ""
    assert "did not run" in cached.stderr


@pytest.mark.feature("CORE-09")
def test_artifacts_are_downloaded_to_a_file_that_isnt_there_yet(project, run_cupola, recorded):
    done = run_cupola("artifacts", "download", "training/load/output", "out.json")
    assert done.returncode == 0
    assert json.loads((project / "out.json").read_text()) == [0, 1, 2, 3]
    again = run_cupola("artifacts", "download", "training/load/output", "out.json")
    assert again.returncode == 1
    assert "exists already" in again.stderr
    assert run_cupola("artifacts", "download", "training/load/output").returncode == 0
    assert json.loads((project / "output.json").read_text()) == [0, 1, 2, 3]
    assert [path.name for path in project.iterdir() if path.name.endswith(".part")] == []


@pytest.mark.feature("CORE-09")
def test_deleting_asks_and_without_a_terminal_wants_yes(project, run_cupola, recorded):
    refused = run_cupola("runs", "delete", recorded)
    assert "--yes" in two_lines(refused, 2)
    assert run_cupola("runs", "delete", recorded, "--yes").returncode == 0
    assert "there is no run" in two_lines(run_cupola("show", recorded), 2)
    assert "there is no run" in two_lines(run_cupola("runs", "delete", recorded, "--yes"), 2)


@pytest.mark.feature("CORE-09", "CORE-12")
@pytest.mark.parametrize(
    ("words", "what", "fix"),
    [
        (["rum", "go.py"], "no command 'rum'", "did you mean `cupola run`?"),
        (["--versoin"], "no option '--versoin'", "cupola --help"),
        (["runs", "lsit"], "no verb 'lsit'", "did you mean `cupola runs list`?"),
        (["runs", "list", "--statsu", "x"], "no option '--statsu'", "did you mean --status?"),
        (["runs", "list", "--status", "faild"], "no state 'faild'", "did you mean 'failed'?"),
        (["runs", "list", "--limit", "many"], "invalid int value: 'many'", "cupola runs list --help"),
        (["show", "nothing"], "there is no run 'nothing'", "cupola runs list"),
        (["show"], "required: RUN", "cupola show --help"),
        (["show", "last"], "there are no runs yet", "cupola run FILE"),
        (["run", "missing.py"], "there is no file 'missing.py'", "relative paths"),
        (["run", "bad.py"], "has 2 pipelines: breaking, fine", "name one: bad.py:breaking"),
        (["run", "go.py:trainin"], "no pipeline 'trainin'", "did you mean 'training'?"),
        (["run", "go.py", "--param", "rosw=3"], "rosw", "rows"),
        (["run", "go.py", "--param", "rows=three"], "three", "rows"),
        (["completion", "bahs"], "invalid choice: 'bahs'", "did you mean 'bash'?"),
        (["artifacts", "show", "nothing"], "nothing", "cupola artifacts list"),
    ],
)
def test_wrong_use_is_two_lines_with_the_right_spelling(project, run_cupola, words, what, fix):
    said = two_lines(run_cupola(*words), 2)
    assert what in said
    assert fix in said


@pytest.mark.feature("CORE-09")
def test_debug_shows_the_whole_traceback(run_cupola):
    done = run_cupola("show", "nothing", "--debug")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "NotFound" in done.stderr


@pytest.mark.feature("CORE-09")
def test_a_file_that_cant_be_imported_shows_its_own_traceback(project, run_cupola):
    (project / "broken.py").write_text("import os\nimport nothing_like_this\n")
    done = run_cupola("run", "broken.py")
    assert done.returncode == 1
    assert 'broken.py", line 2' in done.stderr
    assert "cupola/cli" not in done.stderr
    assert done.stderr.splitlines()[-2].startswith("error: broken.py can't be imported: ModuleNotFoundError")


@pytest.mark.feature("CORE-09", "CORE-12")
def test_letters_are_kept_under_an_ascii_locale(project, run_cupola):
    (project / "go.py").write_text(PROGRAM.replace('"loading"', '"lädt 漢字"'), encoding="utf-8")
    plain = {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}
    assert run_cupola("run", "go.py", **plain).returncode == 0
    done = run_cupola("logs", "last", **plain)
    assert done.stdout == "lädt 漢字 4\n"


@pytest.mark.feature("CORE-09")
def test_a_reader_that_goes_away_is_no_error(project, recorded):
    cupola = Path(sys.executable).with_name("cupola")
    done = subprocess.run(
        f"{cupola} runs list --json | head -c 1; exit ${{PIPESTATUS[0]}}",
        shell=True,
        executable="/bin/bash",
        capture_output=True,
        text=True,
        env=os.environ,
        check=False,
        timeout=60,
    )
    assert done.stderr == ""
    assert done.returncode == 0


@pytest.mark.feature("CORE-01", "CORE-09")
def test_init_marks_a_folder_once_and_refuses_odd_places(tmp_path, run_cupola, home):
    made = run_cupola("init")
    assert made.returncode == 0
    assert (tmp_path / ".cupola" / "config.yaml").is_file()
    assert str(tmp_path) in made.stderr
    before = (tmp_path / ".cupola" / "config.yaml").read_text()
    again = run_cupola("init")
    assert again.returncode == 0
    assert "nothing was changed" in again.stderr
    assert (tmp_path / ".cupola" / "config.yaml").read_text() == before
    inner = tmp_path / "inner"
    inner.mkdir()
    assert "belongs to the inner one" in run_cupola("init", "inner").stderr
    assert strict(run_cupola("init", "inner", "--json").stdout)["made"] is False
    two_lines(run_cupola("init", "/"), 2)
    two_lines(run_cupola("init", "nowhere"), 2)
    assert "home folder" in two_lines(run_cupola("init", HOME=str(tmp_path)), 2)
    (home / "sub").mkdir()
    assert "belongs to the store" in two_lines(run_cupola("init", cwd=home / "sub"), 2)
    assert "inside a .cupola" in two_lines(run_cupola("init", cwd=tmp_path / ".cupola"), 2)


@pytest.mark.feature("CORE-09")
def test_help_and_version_need_no_store(run_cupola, tmp_path):
    for words in (["--help"], [], ["--version"], ["runs"], ["runs", "--help"], ["show", "--help"], ["run", "--help"]):
        done = run_cupola(*words, CUPOLA_HOME=str(tmp_path / "none"))
        assert done.returncode == 0, words
        assert done.stdout
    assert not (tmp_path / "none").exists()


@pytest.mark.feature("CORE-09")
def test_show_config_prints_each_value_with_where_it_comes_from(project, run_cupola):
    (project / "run.yaml").write_text("params:\n  rows: 7\ncache: false\n")
    done = run_cupola("run", "go.py", "--config", "run.yaml", "--show-config")
    assert done.returncode == 0
    row = next(line for line in done.stdout.splitlines() if line.startswith("params.rows"))
    assert "7" in row
    assert "run.yaml" in row
    assert Client().runs.list() == []
    shown = strict(run_cupola("run", "go.py", "--param", "rows=9", "--show-config", "--json").stdout)
    assert {"name": "params.rows", "value": "9"}.items() <= shown[0].items()


@pytest.mark.feature("CORE-09")
def test_doctor_looks_at_the_environment_and_makes_nothing(run_cupola, tmp_path):
    home = tmp_path / "later"
    done = run_cupola("doctor", CUPOLA_HOME=str(home), CUPOLA_PROGRESS="plain")
    assert done.returncode == 0
    assert str(home) in done.stdout
    assert "will be made by the first run" in done.stdout
    assert "CUPOLA_PROGRESS" in done.stdout
    assert not home.exists()
    found = strict(run_cupola("doctor", "--json", CUPOLA_HOME=str(home)).stdout)
    assert found["problems"] == []
    assert found["home"] == str(home)


@pytest.mark.feature("CORE-03", "CORE-09")
def test_doctor_checks_and_rebuilds_the_store(project, run_cupola, recorded, home):
    assert "1 run, 1 pipeline" in run_cupola("doctor").stdout
    done = run_cupola("doctor", "store", "--deep")
    assert done.returncode == 0, done.stdout
    assert "is clean: 1 run" in done.stdout
    before = run_cupola("show", recorded, "--json").stdout
    rebuilt = run_cupola("doctor", "store", "--rebuild", "--json")
    assert rebuilt.returncode == 0
    assert strict(rebuilt.stdout)["rebuilt"]["runs"] == 1
    assert run_cupola("show", recorded, "--json").stdout == before
    (home / "cupola.db").write_bytes(b"nonsense" * 1000)
    broken = run_cupola("doctor", "store")
    assert broken.returncode == 1
    assert "--rebuild" in broken.stdout
    assert "damaged" in run_cupola("ps").stderr
    assert run_cupola("doctor", "store", "--rebuild").returncode == 0
    assert run_cupola("show", recorded, "--json").stdout == before


@pytest.mark.feature("CORE-09", "CORE-12")
def test_a_home_that_cant_be_is_named_with_what_to_do(project, run_cupola, tmp_path):
    (tmp_path / "file").touch()
    for words in (["ps"], ["show", "last"], ["run", "go.py"]):
        for place in ("file", "file/below"):
            said = two_lines(run_cupola(*words, CUPOLA_HOME=str(tmp_path / place)), 3)
            assert str(tmp_path / place) in said
            assert "CUPOLA_HOME" in said
    found = run_cupola("doctor", CUPOLA_HOME=str(tmp_path / "file"))
    assert found.returncode == 1
    assert "is no folder" in found.stdout
    empty = run_cupola("doctor", "store", CUPOLA_HOME=str(tmp_path / "later"))
    assert empty.returncode == 0
    assert "there is no store" in empty.stdout
    said = two_lines(run_cupola("run", "go.py", CUPOLA_PROGRESS="loud"), 2)
    assert "CUPOLA_PROGRESS='loud'" in said
