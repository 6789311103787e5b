"""A pipeline of 60 steps that tells an outside witness what really happened: python chain_of_60.py WITNESS SALT.

Each step appends a line to the witness when it begins and when its work is done, by one write to a file opened with
O_APPEND, so the lines are in the kernel's hands whatever becomes of this process.
"""

import os
import sys

from cupola import get_step_context, pipeline, step

LENGTH = 60
# Long enough that a kill may fall into a step, short enough that it may fall between two.
WORK = 4000


def tell(word: str) -> None:
    witness = os.open(os.environ["WITNESS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(witness, f"{word} {get_step_context().step.name}\n".encode())
    os.close(witness)


@step
def add(total: int) -> int:
    tell("begin")
    for _ in range(WORK):
        pass
    tell("end")
    return total + 1


@pipeline
def chain_of_60(salt: int) -> int:
    total = add(salt)
    for _ in range(LENGTH - 1):
        total = add(total)
    return total


if __name__ == "__main__":
    chain_of_60(salt=int(sys.argv[1]))
