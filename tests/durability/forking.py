"""Runs and resumes a pipeline in forked children, as one process that is told how by JSON lines on standard input.

A child starts in milliseconds, so that it can be done for every write that a run makes. Each order has `home`,
`witness` and `act` (`run`, `resume`, `look`, or `go on` for whichever of the first two it takes), and may have `mode`
and `at` for faults.c, `clock` for a clock that jumps, `twins`: that many children begin at the same moment, and `go`: a
file that is made when the first of them has ended. With `die` the last step kills its process. Each is answered by a
line.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import sys
from typing import Any

from cupola import Client, CupolaError

MODES = ("count", "kill", "torn", "eio once", "eio always", "short", "full")


def act(order: dict[str, Any]) -> None:
    what = order["act"]
    runs = Client().runs.list(limit=1) if what != "run" else []
    if what == "look":
        return
    if what == "go on":
        what = "resume" if runs else "run"
    if what == "resume":
        if not runs:
            raise CupolaError("there is no run to be seen")
        runs[0].resume()
    else:
        getattr(importlib.import_module(order["pipeline"]), order["pipeline"])()


def child(order: dict[str, Any], begin: int, answer: int) -> None:
    """Carry an order out in this forked child, and leave."""
    os.environ.update(
        CUPOLA_HOME=order["home"], WITNESS=order["witness"], GO=order.get("go", ""), DIE="1" if order.get("die") else ""
    )
    library = ctypes.CDLL(None)
    output = os.open(f"{order['witness']}.said", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.read(begin, 1)
    said, code = "", 0
    if "mode" in order:
        library.fault_arm(os.fsencode(order["home"]), MODES.index(order["mode"]), ctypes.c_long(order["at"]))
    if "clock" in order:
        library.fault_clock(ctypes.c_long(order["clock"]))
    try:
        act(order)
    except CupolaError as error:
        said, code = f"{error}", error.exit_code
    count = library.fault_count() if "mode" in order else 0
    told = {"pid": os.getpid(), "said": said, "count": count}
    if order.get("mode") == "count":
        told["modules"] = [name for name in sys.modules if name != "__main__"]
    with os.fdopen(answer, "w") as file:
        file.write(json.dumps(told) + "\n")
    os._exit(code)


def carry_out(order: dict[str, Any]) -> list[dict[str, Any]]:
    """Fork as many children as an order wants, let them begin at once, and tell what became of each."""
    begin_read, begin = os.pipe()
    answer_read, answer = os.pipe()
    children = []
    for _ in range(order.get("twins", 1)):
        process = os.fork()
        if process == 0:
            os.close(begin)
            try:
                child(order, begin_read, answer)
            finally:  # what wasn't meant to be raised is shown, and the child never comes back to the parent's loop
                sys.excepthook(*sys.exc_info())
                os._exit(70)
        children.append(process)
    os.close(answer)
    os.close(begin_read)
    os.close(begin)
    codes: dict[int, int] = {}
    while len(codes) < len(children):
        process, status = os.wait()
        codes[process] = os.waitstatus_to_exitcode(status)
        if "go" in order:
            open(order["go"], "w").close()
    with open(answer_read) as file:
        told = {one["pid"]: one for one in map(json.loads, file)}
    # What an undisturbed run imported late, the next children need not import each for itself.
    for name in [name for one in told.values() for name in one.pop("modules", ())]:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    return [{"code": codes[process], **told.get(process, {"pid": process})} for process in children]


if __name__ == "__main__":
    importlib.import_module("cupola.client.again")
    importlib.import_module(sys.argv[1])
    for line in sys.stdin:
        print(json.dumps(carry_out(json.loads(line))), flush=True)
