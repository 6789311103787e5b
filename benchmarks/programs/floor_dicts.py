"""The floor with a dict of 10 kB as value: floor_dicts.py N says seconds per step."""

import hashlib
import pickle
import shutil
import sqlite3
import sys
import tempfile
import time

n = int(sys.argv[1])
home = tempfile.mkdtemp()


def change(record):
    return {**record, "n": record["n"] + 1}


db = sqlite3.connect(f"{home}/f.db")
db.execute("pragma journal_mode=wal")
db.execute("pragma synchronous=normal")
db.execute(
    "create table step(id integer primary key, run text, name text, started real, ended real, status text, digest text)"
)
began = time.perf_counter()
value = {"n": 0} | {f"field_{number:03d}": f"{number:085d}" for number in range(100)}
for i in range(n):
    started = time.time()
    value = change(value)
    data = pickle.dumps(value)
    digest = hashlib.sha256(data).hexdigest()
    path = f"{home}/{i}-{digest}"
    with open(path, "wb") as file:
        file.write(data)
    with db:
        db.execute(
            "insert into step(run,name,started,ended,status,digest) values(?,?,?,?,?,?)",
            ("r", f"s{i}", started, time.time(), "done", digest),
        )
    with open(path, "rb") as file:
        value = pickle.load(file)
seconds = time.perf_counter() - began
assert value["n"] == n
db.close()
shutil.rmtree(home)
print(seconds / n)
