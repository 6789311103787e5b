-- The named questions. Each has a name, a sentence, and one statement.

-- name: find_cached
-- The newest usable result of each wanted cache key, for a list of `[bucket, key]`.
SELECT step.base_key, step.inputs_key, run.id, step.position, step.ended_at, step.started_at, step.expires_at, step.run
FROM json_each(:keys) AS wanted
CROSS JOIN step INDEXED BY step_cache
  ON step.cache_bucket = json_extract(wanted.value, '$[0]') AND step.base_key = json_extract(wanted.value, '$[1]')
  AND step.run = (
    SELECT newest.run FROM step AS newest INDEXED BY step_cache
    WHERE newest.cache_bucket = json_extract(wanted.value, '$[0]') AND newest.base_key = json_extract(wanted.value, '$[1]')
      AND (newest.expires_at = 0 OR newest.expires_at > :now)
    ORDER BY newest.run DESC LIMIT 1)
  AND (step.expires_at = 0 OR step.expires_at > :now)
CROSS JOIN run ON run.number = step.run;

-- name: find_cached_exactly
-- The newest usable result of one cache key with exactly these inputs.
SELECT step.base_key, step.inputs_key, run.id, step.position, step.ended_at, step.started_at, step.expires_at, step.run
FROM step INDEXED BY step_cache CROSS JOIN run ON run.number = step.run
WHERE step.cache_bucket = :bucket AND step.inputs_bucket = :inputs_bucket
  AND step.base_key = :base_key AND step.inputs_key = :inputs_key
  AND (step.expires_at = 0 OR step.expires_at > :now)
ORDER BY step.run DESC LIMIT 1;

-- name: step_before
-- The newest earlier record of a step of a pipeline that has a result: walks back from run to run.
SELECT {columns}
FROM pipeline
CROSS JOIN run INDEXED BY run_pipeline ON run.pipeline = pipeline.key
CROSS JOIN step ON step.run = run.number
WHERE pipeline.name = :pipeline AND run.number < :before
  AND step.name = :name AND step.status IN ('completed', 'cached')
ORDER BY run.number DESC LIMIT 1;

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
