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

settings as (

    select
        as_of,
        cast(as_of as date) as as_of_date
    from as_of

),

batches as (

    select * from batches

),

lateness as (

    select * from int_batch_lateness

),

event_days as (

    select * from int_event_days

),

events as (

    select
        source,
        occurred_at,
        occurred_date
    from events

),

-- The newest event of a batch is known, and so is that of a source by as-of:
-- unless one of a batch came after as-of, when events are read.
newest_of_batches as (

    select
        lateness.source,
        lateness.newest_occurred_at
    from lateness
    inner join settings on lateness.newest_occurred_at <= settings.as_of

),

asked_for as (

    select distinct lateness.source
    from lateness
    inner join settings on lateness.newest_occurred_at > settings.as_of

),

-- Of each source the newest event by as-of lies on the day of as-of or on its
-- newest day before. Events of these days are read, and no others.
newest_days as (

    select event_days.occurred_date
    from event_days
    inner join asked_for on event_days.source = asked_for.source
    inner join settings on event_days.occurred_date = settings.as_of_date
    union
    select max(event_days.occurred_date) as occurred_date
    from event_days
    inner join asked_for on event_days.source = asked_for.source
    inner join settings on event_days.occurred_date < settings.as_of_date
    group by event_days.source

),

newest_of_events as (

    select
        events.source,
        events.occurred_at as newest_occurred_at
    from newest_days
    inner join events on newest_days.occurred_date = events.occurred_date
    inner join settings on events.occurred_at <= settings.as_of

),

newest_of_both as (

    select * from newest_of_batches
    union all
    select * from newest_of_events

),

newest as (

    select
        source,
        max(newest_occurred_at) as newest_occurred_at
    from newest_of_both
    group by source

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
        newest.newest_occurred_at as newest_of_source,
        batches.planned_at
    from batches
    left join lateness
        on
            batches.source = lateness.source
            and batches.batch = lateness.batch
    left join newest on batches.source = newest.source

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
