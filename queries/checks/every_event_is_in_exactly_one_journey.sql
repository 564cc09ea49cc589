-- The journeys hold the events, each once. Of every day, channel and touchpoint the count, the least and the greatest id
-- and the sum of the times are compared: an event that is lost, added, or there twice instead of another changes one
-- of them. No journey holds an id twice.

with

events as (

    select event_id, channel, touchpoint, occurred_at
    from events

),

journeys as (

    select journey_id, event_ids, touchpoints, channels, times, touch_count
    from journeys

),

touches as (

    select
        unnest(event_ids) as event_id,
        unnest(channels) as channel,
        unnest(touchpoints) as touchpoint,
        unnest(times) as occurred_at
    from journeys

),

-- Times are summed from the start of their day, or the sums would leave their type.
events_by_cell as (

    select
        cast(occurred_at as date) as occurred_date,
        channel,
        touchpoint,
        count(*) as events,
        min(event_id) as least_id,
        max(event_id) as greatest_id,
        sum(cast(occurred_at as bigint) % 86400000000) as microseconds
    from events
    group by 1, 2, 3

),

touches_by_cell as (

    select
        cast(occurred_at as date) as occurred_date,
        channel,
        touchpoint,
        count(*) as events,
        min(event_id) as least_id,
        max(event_id) as greatest_id,
        sum(cast(occurred_at as bigint) % 86400000000) as microseconds
    from touches
    group by 1, 2, 3

),

offending_cells as (

    select
        coalesce(events_by_cell.occurred_date, touches_by_cell.occurred_date)
            as occurred_date,
        coalesce(events_by_cell.channel, touches_by_cell.channel) as channel,
        coalesce(events_by_cell.touchpoint, touches_by_cell.touchpoint)
            as touchpoint,
        cast(null as varchar) as journey_id,
        events_by_cell.events,
        touches_by_cell.events as touches
    from events_by_cell
    full join touches_by_cell
        on
            events_by_cell.occurred_date = touches_by_cell.occurred_date
            and events_by_cell.channel = touches_by_cell.channel
            and events_by_cell.touchpoint = touches_by_cell.touchpoint
    where
        events_by_cell.events is null
        or touches_by_cell.events is null
        or events_by_cell.events <> touches_by_cell.events
        or events_by_cell.least_id <> touches_by_cell.least_id
        or events_by_cell.greatest_id <> touches_by_cell.greatest_id
        or events_by_cell.microseconds <> touches_by_cell.microseconds

),

offending_journeys as (

    select
        cast(null as date) as occurred_date,
        cast(null as varchar) as channel,
        cast(null as varchar) as touchpoint,
        journey_id,
        count_distinct(event_ids) as events,
        touch_count as touches
    from journeys
    where count_distinct(event_ids) <> touch_count

),

offending as (

    select * from offending_cells

    union all

    select * from offending_journeys

)

select * from offending
