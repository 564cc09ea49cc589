-- Runs: what each run of the main job did.
--
-- grain:      run_id
-- build:      full
-- publish:    file
-- checks:     unique(run_id); not_null(started_at, status)
-- columns:
--   as in run_results: run_id, status, landed, duplicates, dead_letters, models_built, models_failed, checks_failed,
--     elapsed_seconds, as_of, started_at, completed_at

with

run_results as (

    select
        run_id,
        status,
        landed,
        duplicates,
        dead_letters,
        models_built,
        models_failed,
        checks_failed,
        elapsed_seconds,
        as_of,
        started_at,
        completed_at
    from run_results

)

select * from run_results
