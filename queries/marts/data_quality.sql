-- Data quality: what became of the records of each source and batch, how late events arrived and how fresh a source is.
--
-- grain:      source, batch
-- build:      full
-- publish:    file
-- checks:     unique(source, batch); not_null(rows_in, landed, duplicates, dead_letters)
-- columns:
--   newest_occurred_at: newest occurred_at of the batch
--   late_events: events received more than 24 hours after they occurred
--   late_up_to_1h: events received up to an hour after they occurred, or before
--   late_1h_to_1d: events received over an hour and up to a day after they occurred
--   late_1d_to_7d: events received over a day and up to 7 days after they occurred
--   late_7d_to_30d: events received over 7 and up to 30 days after they occurred
--   late_over_30d: events received over 30 days after they occurred
--   future_events: events that claim to have occurred more than [landing] future_tolerance after they were received
--   median_lateness_seconds: median of received_at - occurred_at over the events landed; null without any [seconds]
--   max_lateness_seconds: largest received_at - occurred_at of the events landed; null without any [seconds]
--   freshness_seconds: of the source: from its newest event that occurred by as-of to as-of [seconds]
--   as in batches: source, batch, rows_in, landed, duplicates, dead_letters, files, bytes, planned_at

with

-- An interval is added once and not to every event: it goes through the calendar each time.
settings as (

    select
        as_of.as_of,
        cast(as_of.as_of + settings.future_tolerance as bigint)
            - cast(as_of.as_of as bigint) as tolerance_microseconds
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
        cast(occurred_at as bigint) - cast(received_at as bigint)
            > settings.tolerance_microseconds as is_future,
        occurred_at,
        case when occurred_at <= settings.as_of then occurred_at end
            as occurred_so_far
    from settings
    cross join events

),

-- The events are gone through here and nowhere else. Their lateness is told in
-- ranges without overlap, each with its end, which add up to those landed.
lateness as (

    select
        source,
        batch,
        count(*) filter (where lateness_seconds <= 3600) as late_up_to_1h,
        count(*) filter (
            where lateness_seconds > 3600 and lateness_seconds <= 86400
        ) as late_1h_to_1d,
        count(*) filter (
            where lateness_seconds > 86400 and lateness_seconds <= 7 * 86400
        ) as late_1d_to_7d,
        count(*) filter (
            where
            lateness_seconds > 7 * 86400 and lateness_seconds <= 30 * 86400
        ) as late_7d_to_30d,
        count(*) filter (where lateness_seconds > 30 * 86400) as late_over_30d,
        count(*) filter (where is_future) as future_events,
        median(lateness_seconds) as median_lateness_seconds,
        max(lateness_seconds) as max_lateness_seconds,
        max(occurred_at) as newest_occurred_at,
        max(occurred_so_far) as newest_so_far
    from events
    group by source, batch

),

batches_with_lateness as (

    select
        batches.source,
        batches.batch,
        batches.rows_in,
        batches.landed,
        batches.duplicates,
        batches.dead_letters,
        batches.files,
        batches.bytes,
        coalesce(lateness.late_up_to_1h, 0) as late_up_to_1h,
        coalesce(lateness.late_1h_to_1d, 0) as late_1h_to_1d,
        coalesce(lateness.late_1d_to_7d, 0) as late_1d_to_7d,
        coalesce(lateness.late_7d_to_30d, 0) as late_7d_to_30d,
        coalesce(lateness.late_over_30d, 0) as late_over_30d,
        coalesce(lateness.future_events, 0) as future_events,
        lateness.median_lateness_seconds,
        lateness.max_lateness_seconds,
        lateness.newest_occurred_at,
        max(lateness.newest_so_far) over (partition by batches.source)
            as newest_of_source,
        batches.planned_at
    from batches
    left join lateness
        on
            batches.source = lateness.source
            and batches.batch = lateness.batch

),

data_quality as (

    select
        source,
        batch,
        rows_in,
        landed,
        duplicates,
        dead_letters,
        files,
        bytes,
        late_1d_to_7d + late_7d_to_30d + late_over_30d as late_events,
        late_up_to_1h,
        late_1h_to_1d,
        late_1d_to_7d,
        late_7d_to_30d,
        late_over_30d,
        future_events,
        median_lateness_seconds,
        max_lateness_seconds,
        (
            cast(settings.as_of as bigint) - cast(newest_of_source as bigint)
        ) / 1e6 as freshness_seconds,
        newest_occurred_at,
        planned_at
    from batches_with_lateness
    cross join settings

)

select * from data_quality
