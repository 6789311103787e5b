"""Train, compare and report: python run.py. The second time, nothing has to run again."""

import os
from pathlib import Path

from pipelines.delays import delays

if __name__ == "__main__":
    run = delays()
    print(Path(run.outputs["report"].load()).read_text(encoding="utf-8"))
    pipeline_file = os.path.relpath(Path(__file__).parent / "pipelines" / "delays.py")
    print("What next?")
    print(f"  cupola show {run.name}                 parameters, steps, outputs")
    print(f"  cupola logs {run.name} train_boosting  what a step wrote")
    print(f"  cupola plan {pipeline_file}  what would run now, and why: try it after an edit")
