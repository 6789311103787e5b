"""Train, compare and report: python run.py. The second time, nothing has to run again."""

import os
import shutil
import sys
from pathlib import Path

from pipelines.delays import delays

if __name__ == "__main__":
    run = delays()
    print(Path(run.outputs["report"].load()).read_text(encoding="utf-8"))
    # Without an active environment, the command is found beside the interpreter only.
    cupola = "cupola" if shutil.which("cupola") else os.path.relpath(Path(sys.executable).with_name("cupola"))
    pipeline_file = os.path.relpath(Path(__file__).parent / "pipelines" / "delays.py")
    print("What next? Parameters, steps and outputs; what a step wrote; what would run now and why, say after an edit:")
    print(f"  {cupola} show last")
    print(f"  {cupola} logs last train_boosting")
    print(f"  {cupola} plan {pipeline_file}")
