"""What the pipelines of the durability tests share: the outside witness, and what a step does that takes a while.

A line of the witness is one write to a file opened with O_APPEND, so it is in the kernel's hands whatever becomes of
this process.
"""

import os
import signal
import time

from cupola import get_step_context

# Long enough that a kill may fall into a step, short enough that it may fall between two.
WORK = 4000


def tell(word: str) -> None:
    witness = os.open(os.environ["WITNESS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(witness, f"{word} {get_step_context().step.name}\n".encode())
    os.close(witness)


def work() -> None:
    for _ in range(WORK):
        pass


def fail_once() -> None:
    """Fail in the first attempt there ever was of the running step, whichever process makes it."""
    try:
        os.close(os.open(f"{os.environ['WITNESS']}.{get_step_context().step.name}", os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return
    raise ConnectionError("not at the first attempt")


def wait_for_go() -> None:
    """Wait for the file that GO names, if it does; end this process if DIE says so."""
    if os.environ.get("DIE"):
        os.kill(os.getpid(), signal.SIGKILL)
    end = time.monotonic() + 30
    while os.environ.get("GO") and not os.path.exists(os.environ["GO"]) and time.monotonic() < end:
        time.sleep(0.001)
