"""Drives a pool without a driver: what programs of test_pool.py import to run the steps of a pipeline in workers."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cupola.client.launching import open_site
from cupola.compiler.requests import Request, compile_request
from cupola.context import PipelineInfo, RunInfo
from cupola.engine.graph import Graph
from cupola.engine.pool import Pool
from cupola.engine.results import Landed
from cupola.engine.worker_echo import WorkerEcho
from cupola.entities.run import StepStatus
from cupola.ids import new_id
from cupola.logfile import read_log
from cupola.worker import Task


class Driving:
    """One pool over the steps of one pipeline."""

    def __init__(self, pipeline: Any, size: int = 2, show: Callable[[bytes, int], None] | None = None) -> None:
        definition = pipeline.definition
        self.compiled = compile_request(Request(pipeline=definition))
        self.site = open_site(definition)
        self.graph = Graph(self.compiled.snapshot.steps)
        self.run = new_id()
        self.folder = Path(os.environ["CUPOLA_HOME"]) / "runs" / self.run
        self.folder.mkdir(parents=True)
        info = RunInfo(self.run, "test", "default", {})
        echo = WorkerEcho(self.folder, show) if show is not None else None
        self.pool = Pool(self.site, info, PipelineInfo(definition.name, "run:p"), self.folder, size, echo=echo)
        self.manifests: dict[tuple[int, str], Any] = {}
        self.landed: dict[str, dict[str, Any]] = {}
        self.starts: dict[int, Any] = {}

    def task(self, position: int, attempt: int = 1) -> Task:
        spec = self.compiled.snapshot.steps[position]
        return Task(
            position=position,
            spec=spec,
            options=self.compiled.snapshot.options[spec.options],
            live=self.compiled.steps[position],
            attempt=attempt,
            tries=attempt,
            manifests=self.manifests,
            shared={},
        )

    def start(self, name: str, extra_env: Mapping[str, str] | None = None, attempt: int = 1) -> Any:
        position = next(i for i, spec in enumerate(self.compiled.snapshot.steps) if spec.name == name)
        self.starts[position] = self.pool.place(self.task(position, attempt), extra_env)
        self.pool.run(position)
        return self.starts[position]

    def wait(self, timeout_s: float = 20.0) -> dict[str, Any]:
        """Wait until one more attempt has landed; return what is known of the last one."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if new := [self._note(landed) for landed in self.pool.wait(1.0)]:
                return new[-1]
        raise TimeoutError("nothing landed")

    def _note(self, landed: Landed) -> dict[str, Any]:
        spec = self.compiled.snapshot.steps[landed.position]
        outcome, started = landed.outcome, self.starts[landed.position]
        if outcome.status is StepStatus.COMPLETED:
            for record in outcome.outputs:
                self.manifests[landed.position, record.name] = record.manifest
        self.landed[spec.name] = {
            "status": outcome.status.value,
            "type": outcome.failure.type if outcome.failure else "",
            "message": outcome.failure.message if outcome.failure else "",
            "traceback": outcome.failure.traceback if outcome.failure else "",
            "signal": outcome.failure.signal if outcome.failure else "",
            "error": type(outcome.error).__name__,
            "own": type(outcome.error).__module__,
            "again": outcome.again_after_s,
            "worker": landed.worker,
            "log": str(read_log(self.folder, [(started.worker, started.log, landed.log_end)])),
            "peak": outcome.usage.peak_bytes,
            "cpu": outcome.usage.cpu_s,
            "value": self.load(landed.position) if outcome.status is StepStatus.COMPLETED else None,
        }
        return self.landed[spec.name]

    def load(self, position: int) -> Any:
        from cupola.artifacts.materializer import load_value

        values = [
            load_value(manifest, self.site.blobs) for (step, _), manifest in self.manifests.items() if step == position
        ]
        return values[0] if values else None

    def all(self) -> dict[str, dict[str, Any]]:
        """Run all steps, each when what it reads is there; one that fails is over."""
        while True:
            while self.pool.free() and (position := self.graph.take_ready()) is not None:
                self.starts[position] = self.pool.place(self.task(position))
                self.pool.run(position)
            if not self.pool.busy():
                return self.landed
            before = dict(self.landed)
            self.wait()
            for name in self.landed.keys() - before.keys():
                position = next(i for i, spec in enumerate(self.compiled.snapshot.steps) if spec.name == name)
                if self.landed[name]["status"] == "completed":
                    self.graph.finish(position)
                else:
                    self.graph.block(position)


def drive(pipeline: Any, size: int = 2) -> None:
    """Run all steps and print what became of them, as JSON."""
    driving = Driving(pipeline, size)
    try:
        landed = driving.all()
    finally:
        driving.pool.close()
    json.dump(landed, sys.stdout, default=str)
