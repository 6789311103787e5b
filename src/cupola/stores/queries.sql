-- The named questions. Each has a name, a sentence, and one statement.

-- name: find_cached
-- The newest usable result of each wanted cache key, for an object of buckets by key; one row for each of its outputs,
-- the first of which has the step's events.
SELECT step.base_key, step.inputs_key, step.position, step.started_at, step.ended_at, step.expires_at,
  CASE WHEN coalesce(version.position, 0) = 0 THEN step.detail END, {columns}
FROM json_each(:keys) AS wanted
CROSS JOIN step INDEXED BY step_cache
  ON step.cache_bucket = wanted.value AND step.base_key = wanted.key
  AND step.run = (
    SELECT newest.run FROM step AS newest INDEXED BY step_cache
    WHERE newest.cache_bucket = wanted.value AND newest.base_key = wanted.key
      AND (newest.expires_at = 0 OR newest.expires_at > :now)
    ORDER BY newest.run DESC LIMIT 1)
  AND (step.expires_at = 0 OR step.expires_at > :now)
CROSS JOIN run ON run.number = step.run
LEFT JOIN version ON version.run = step.run AND version.step = step.position
LEFT JOIN artifact ON artifact.key = version.artifact;

-- name: find_cached_exactly
-- The newest usable result of one cache key with exactly these inputs; one row for each of its outputs,
-- the first of which has the step's events.
SELECT step.base_key, step.inputs_key, step.position, step.started_at, step.ended_at, step.expires_at,
  CASE WHEN coalesce(version.position, 0) = 0 THEN step.detail END, {columns}
FROM (
  SELECT * FROM step INDEXED BY step_cache_exactly
  WHERE cache_bucket = :bucket AND inputs_bucket = :inputs_bucket AND base_key = :base_key AND inputs_key = :inputs_key
    AND (expires_at = 0 OR expires_at > :now)
  ORDER BY run DESC LIMIT 1) AS step
CROSS JOIN run ON run.number = step.run
LEFT JOIN version ON version.run = step.run AND version.step = step.position
LEFT JOIN artifact ON artifact.key = version.artifact;

-- name: runs_before
-- Earlier runs of a pipeline, newest first.
SELECT number, snapshot FROM run INDEXED BY run_pipeline
WHERE pipeline = (SELECT key FROM pipeline WHERE name = :pipeline) AND number < :before
ORDER BY number DESC LIMIT 200;

-- name: step_at
-- One step of one run by its position.
SELECT {columns}
FROM run
CROSS JOIN pipeline ON pipeline.key = run.pipeline
CROSS JOIN step ON step.run = run.number
WHERE run.number = ? AND step.position = ?;

-- name: count_children
-- How many children of each mapped step of a run are in which state.
SELECT expansion.step, step.status, count(*)
FROM run
CROSS JOIN expansion ON expansion.run = run.number
CROSS JOIN step ON step.run = expansion.run
  AND step.position >= expansion.first AND step.position < expansion.first + expansion.count
WHERE run.id = ?
GROUP BY expansion.step, step.status;

-- name: consumers_of
-- The steps that read a value, newest first.
SELECT {columns}
FROM input
CROSS JOIN run ON run.number = input.run
CROSS JOIN pipeline ON pipeline.key = run.pipeline
CROSS JOIN step ON step.run = input.run AND step.position = input.step
WHERE input.bucket = :bucket
ORDER BY input.run DESC, input.step DESC
LIMIT 1000;
