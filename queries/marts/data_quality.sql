-- Data quality: what became of the records of each source and batch, how late events arrived and how fresh a source is.
--
-- grain:      source, batch
-- build:      full
-- publish:    file
-- checks:     unique(source, batch); not_null(rows_in, landed, duplicates, dead_letters)

with

settings as (

    select settings.future_tolerance, as_of.as_of
    from settings
    cross join as_of

),

batches as (

    select * from batches

),

events as (

    select
        source,
        batch,
        (cast(received_at as bigint) - cast(occurred_at as bigint)) / 1e6
            as lateness_seconds,
        occurred_at > received_at + settings.future_tolerance as is_future,
        occurred_at,
        case when occurred_at <= settings.as_of then occurred_at end
            as occurred_so_far
    from settings
    cross join events

),

-- 86400 seconds are a day.
lateness as (

    select
        source,
        batch,
        count(*) filter (where lateness_seconds > 86400) as late_events,
        count(*) filter (where is_future) as future_events,
        median(lateness_seconds) as median_lateness_seconds,
        max(lateness_seconds) as max_lateness_seconds,
        max(occurred_at) as newest_occurred_at,
        max(occurred_so_far) as newest_so_far
    from events
    group by source, batch

),

freshness as (

    select
        lateness.source,
        (
            cast(settings.as_of as bigint)
            - cast(max(lateness.newest_so_far) as bigint)
        ) / 1e6 as freshness_seconds
    from settings
    cross join lateness
    group by settings.as_of, lateness.source

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
        freshness.freshness_seconds,
        lateness.newest_occurred_at,
        batches.planned_at
    from batches
    left join lateness
        on
            batches.source = lateness.source
            and batches.batch = lateness.batch
    left join freshness on batches.source = freshness.source

)

select * from data_quality
