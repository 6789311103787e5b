"""The main job on real data: it ends in time, is cached the second time, and an edit reruns what depends on it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from cupola import Client

pytest.importorskip("sklearn")
pytest.importorskip("pyarrow")

FLIGHTS = Path(__file__).resolve().parent.parent / "examples" / "flights"
LIMIT_S = 120
STEPS = {
    "load_flights", "load_weather", "validate", "build_features", "split", "train_linear", "train_boosting",
    "learn_shift", "evaluate_guess", "evaluate_shifted", "evaluate_linear", "evaluate_boosting", "choose",
    "write_report",
}  # fmt: skip
MEASURED = {"evaluate_guess", "evaluate_shifted", "evaluate_linear", "evaluate_boosting", "choose", "write_report"}


def steps_with(status: str) -> set[str]:
    run = Client().runs.list(pipeline="delays", limit=1)[0]
    return {name for name, step in run.steps.items() if str(step.status) == status}


@pytest.mark.feature("CORE-10", "CORE-07", "CORE-05")
def test_the_example_runs_is_cached_and_reruns_only_what_an_edit_touches(tmp_path, run_python, run_cupola):
    project = shutil.copytree(FLIGHTS, tmp_path / "flights", ignore=shutil.ignore_patterns("__pycache__"))

    first = run_python("run.py", cwd=project, timeout_s=LIMIT_S)
    assert first.returncode == 0, first.stdout + first.stderr
    assert "327346 of 336776 flights were flown" in first.stdout
    assert steps_with("completed") == STEPS
    steps = Client().runs.list(pipeline="delays", limit=1)[0].steps
    for output in ("to_choose", "to_report"):
        error = {
            name: steps[f"evaluate_{name}"].outputs[output].load().mean_error
            for name in ("guess", "shifted", "linear", "boosting")
        }
        # A model must beat what can be guessed without one, or the example shows nothing.
        assert min(error["linear"], error["boosting"]) < min(error["guess"], error["shifted"]), error

    second = run_python("run.py", cwd=project)
    assert second.returncode == 0, second.stdout + second.stderr
    assert steps_with("cached") == STEPS

    measures = project / "steps" / "measures.py"
    measures.write_text(measures.read_text().replace("<= 15)", "<= 10)"))
    third = run_python("run.py", cwd=project, timeout_s=LIMIT_S)
    assert third.returncode == 0, third.stdout + third.stderr
    assert steps_with("completed") == MEASURED
    assert steps_with("cached") == STEPS - MEASURED

    newest = Client().runs.list(pipeline="delays", limit=1)[0]
    why = run_cupola("show", newest.name, "--why", "evaluate_linear", "--json", cwd=project)
    causes = json.loads(why.stdout)["causes"]
    assert [(cause["kind"], Path(cause["file"]).name) for cause in causes] == [("function", "measures.py")]
