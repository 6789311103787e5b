"""Train, compare and report: python run.py. The second time, nothing has to run again."""

from pathlib import Path

from pipelines.delays import delays

if __name__ == "__main__":
    run = delays()
    print(Path(run.outputs["report"].load()).read_text(encoding="utf-8"))
    print(f"What next?  cupola show {run.name}               the graph, times and where each result is from")
    print(f"            cupola logs {run.name} train_boosting  what a step wrote")
    print(f"            cupola plan {Path(__file__).parent / 'pipelines/delays.py'}  what would run now, and why")
