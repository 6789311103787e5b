-- The first schema. Numbers of runs are given once and never again, hence AUTOINCREMENT; steps and versions are keyed by
-- the run that made them, so that a batch of them is written at the end of a tree. What is never filtered is one encoded
-- blob (`detail`). `EXPLAIN` tests hold that every listing walks one of the indexes below.

CREATE TABLE meta (
  key TEXT PRIMARY KEY,
  value TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE pipeline (
  key INTEGER PRIMARY KEY,
  project TEXT NOT NULL,
  name TEXT NOT NULL,
  source TEXT NOT NULL,
  created_at REAL NOT NULL,
  runs INTEGER NOT NULL
);
CREATE UNIQUE INDEX pipeline_name ON pipeline (name, project);

CREATE TABLE snapshot (
  id TEXT PRIMARY KEY,
  bytes BLOB NOT NULL,
  blob TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE run (
  number INTEGER PRIMARY KEY AUTOINCREMENT,
  id TEXT NOT NULL,
  name TEXT NOT NULL,
  pipeline INTEGER NOT NULL,
  status TEXT NOT NULL,
  snapshot TEXT NOT NULL,
  started_at REAL NOT NULL,
  ended_at REAL,
  epoch INTEGER NOT NULL,
  head INTEGER NOT NULL,
  digest BLOB NOT NULL,
  journal_bytes INTEGER NOT NULL,
  sealed INTEGER NOT NULL,
  counts BLOB NOT NULL,
  detail BLOB NOT NULL
);
CREATE UNIQUE INDEX run_id ON run (id);
CREATE INDEX run_name ON run (name);
CREATE INDEX run_pipeline ON run (pipeline);
CREATE INDEX run_status ON run (status);
CREATE INDEX run_started ON run (started_at);
CREATE INDEX run_ended ON run (ended_at);
CREATE INDEX run_snapshot ON run (snapshot);

-- Where a run's code parts stand: large, and only wanted for one run at a time.
CREATE TABLE place (
  run INTEGER PRIMARY KEY,
  places BLOB NOT NULL
);

CREATE TABLE step (
  run INTEGER NOT NULL,
  position INTEGER NOT NULL,
  name TEXT NOT NULL,
  status TEXT NOT NULL,
  started_at REAL,
  ended_at REAL,
  base_key TEXT NOT NULL,
  inputs_key TEXT NOT NULL,
  expires_at REAL NOT NULL,
  cache_bucket INTEGER,
  inputs_bucket INTEGER,
  detail BLOB NOT NULL,
  PRIMARY KEY (run, position)
) WITHOUT ROWID;
-- Results that may be used again. Buckets are checksums of the two keys: an index of the keys themselves, which come in
-- random order, cost five times as much per step.
CREATE INDEX step_cache ON step (cache_bucket, run) WHERE cache_bucket IS NOT NULL;
CREATE INDEX step_cache_exactly ON step (cache_bucket, inputs_bucket, run) WHERE cache_bucket IS NOT NULL;
CREATE INDEX step_unusual ON step (status, run, position) WHERE status <> 'completed';

-- The children of mapped steps: they stand from position `first` on; `event` has the items that they are spread from.
CREATE TABLE expansion (
  run INTEGER NOT NULL,
  step INTEGER NOT NULL,
  first INTEGER NOT NULL,
  count INTEGER NOT NULL,
  event BLOB NOT NULL,
  PRIMARY KEY (run, step)
) WITHOUT ROWID;

-- `retired`: number of the newest version that was deleted; those that follow get larger ones.
CREATE TABLE artifact (
  key INTEGER PRIMARY KEY,
  project TEXT NOT NULL,
  name TEXT NOT NULL,
  created_at REAL NOT NULL,
  retired INTEGER NOT NULL
);
CREATE UNIQUE INDEX artifact_name ON artifact (name, project);

-- What is searched of a version; how its value is stored stands in the events of its step.
CREATE TABLE version (
  run INTEGER NOT NULL,
  step INTEGER NOT NULL,
  position INTEGER NOT NULL,
  artifact INTEGER NOT NULL,
  number INTEGER NOT NULL,
  label TEXT NOT NULL,
  output TEXT NOT NULL,
  digest TEXT NOT NULL,
  size_bytes INTEGER NOT NULL,
  kind TEXT NOT NULL,
  created_at REAL NOT NULL,
  PRIMARY KEY (run, step, position)
) WITHOUT ROWID;
CREATE UNIQUE INDEX version_number ON version (artifact, number);
CREATE UNIQUE INDEX version_label ON version (artifact, label) WHERE label <> '';

-- Which step read a value of which digest, by a checksum of it: lineage downwards.
CREATE TABLE input (
  bucket INTEGER NOT NULL,
  run INTEGER NOT NULL,
  step INTEGER NOT NULL,
  PRIMARY KEY (bucket, run, step)
) WITHOUT ROWID;

-- Tags and metadata of runs (step and position are -1), steps (position is -1) and versions.
CREATE TABLE tag (
  kind TEXT NOT NULL,
  run INTEGER NOT NULL,
  step INTEGER NOT NULL,
  position INTEGER NOT NULL,
  name TEXT NOT NULL,
  PRIMARY KEY (kind, run, step, position, name)
) WITHOUT ROWID;
CREATE INDEX tag_name ON tag (kind, name, run, step, position);

CREATE TABLE metadata (
  kind TEXT NOT NULL,
  run INTEGER NOT NULL,
  step INTEGER NOT NULL,
  position INTEGER NOT NULL,
  key TEXT NOT NULL,
  type TEXT NOT NULL,
  number NUMERIC,
  text TEXT,
  value BLOB NOT NULL,
  PRIMARY KEY (kind, run, step, position, key)
) WITHOUT ROWID;
CREATE INDEX metadata_number ON metadata (kind, key, number, run, step, position) WHERE number IS NOT NULL;
CREATE INDEX metadata_text ON metadata (kind, key, text, run, step, position);

-- Events that could not be applied; they never block the rest.
CREATE TABLE dead_letter (
  run TEXT NOT NULL,
  seq INTEGER NOT NULL,
  reason TEXT NOT NULL,
  PRIMARY KEY (run, seq)
) WITHOUT ROWID;

CREATE TABLE lease (
  what TEXT PRIMARY KEY,
  holder TEXT NOT NULL,
  epoch INTEGER NOT NULL,
  expires_at REAL NOT NULL
) WITHOUT ROWID;

-- Keys of writes that were done, so that the same write again changes nothing.
CREATE TABLE done (
  key TEXT PRIMARY KEY,
  at REAL NOT NULL
) WITHOUT ROWID;
