-- Lateness of batches: how late the events of each source and batch arrived. A batch stays as it landed.
--
-- grain:      source, batch
-- build:      incremental by sum(events)
-- publish:    no
-- columns:
--   events: events landed
--   late_up_to_1h: events received up to an hour after they occurred, or before
--   late_1h_to_1d: events received over an hour and up to a day after they occurred
--   late_1d_to_7d: events received over a day and up to 7 days after they occurred
--   late_7d_to_30d: events received over 7 and up to 30 days after they occurred
--   late_over_30d: events received over 30 days after they occurred
--   future_events: events that claim to have occurred more than [landing] future_tolerance after they were received
--   median_lateness_seconds: median of received_at - occurred_at [seconds]
--   max_lateness_seconds: largest received_at - occurred_at [seconds]
--   newest_occurred_at: newest occurred_at
--   as in events: source, batch

with

-- An interval is added once and not to every event: it goes through the calendar each time.
settings as (

    select
        cast(to_timestamp_micros(0) + future_tolerance as bigint)
            as tolerance_microseconds
    from settings

),

events as (

    select
        events.source,
        events.batch,
        (
            cast(events.received_at as bigint)
            - cast(events.occurred_at as bigint)
        ) / 1e6 as lateness_seconds,
        cast(events.occurred_at as bigint) - cast(events.received_at as bigint)
            > settings.tolerance_microseconds as is_future,
        events.occurred_at
    from events
    cross join settings

),

-- The ranges do not overlap and add up to the events.
lateness as (

    select
        source,
        batch,
        count(*) as events,
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
        max(occurred_at) as newest_occurred_at
    from events
    group by source, batch

)

select * from lateness
