-- Data quality: what became of the records of each source and batch, and how late events arrived.
--
-- grain:      source, batch
-- build:      full
-- publish:    file
-- checks:     unique(source, batch); not_null(rows_in, landed, duplicates, dead_letters)

with

batches as (

    select * from batches

),

events as (

    select
        source,
        batch,
        (cast(received_at as bigint) - cast(occurred_at as bigint)) / 1e6
            as lateness_seconds,
        occurred_at
    from events

),

-- 86400 seconds are a day.
lateness as (

    select
        source,
        batch,
        count(*) filter (where lateness_seconds > 86400) as late_events,
        count(*) filter (where lateness_seconds < -86400) as future_events,
        median(lateness_seconds) as median_lateness_seconds,
        max(lateness_seconds) as max_lateness_seconds,
        max(occurred_at) as newest_occurred_at
    from events
    group by source, batch

),

data_quality as (

    select
        batches.source,
        batches.batch,
        batches.rows_in,
        batches.landed,
        batches.duplicates,
        batches.dead_letters,
        batches.files,
        batches.bytes,
        coalesce(lateness.late_events, 0) as late_events,
        coalesce(lateness.future_events, 0) as future_events,
        lateness.median_lateness_seconds,
        lateness.max_lateness_seconds,
        lateness.newest_occurred_at,
        batches.planned_at
    from batches
    left join lateness
        on
            batches.source = lateness.source
            and batches.batch = lateness.batch

)

select * from data_quality
