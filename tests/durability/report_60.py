"""Says as JSON what the store knows of the newest run with a salt, then does what a person would do: runs it again.

python report_60.py SALT; the working folder holds chain_of_60.py.
"""

import json
import sys

from chain_of_60 import chain_of_60

from cupola import Client

salt = int(sys.argv[1])
# Opening the store settles what the dead driver left.
killed = [run for run in Client().runs.list(pipeline="chain_of_60", limit=5) if run.params["salt"] == salt]
before = {
    "runs": len(killed),
    "status": str(killed[0].status) if killed else "absent",
    "steps": {name: str(step.status) for name, step in killed[0].steps.items()} if killed else {},
    "values": {name: step.output.load() for name, step in killed[0].steps.items() if str(step.status) == "completed"}
    if killed
    else {},
}
again = chain_of_60(salt=salt)
after = {
    "status": str(again.status),
    "steps": {name: str(step.status) for name, step in again.steps.items()},
    "output": again.output.load(),
}
print(json.dumps({"before": before, "after": after}))
