-- The journeys hold the events, each once, with its own time, channel and touchpoint. Of every day, channel and touchpoint
-- the count is compared, and the sum of a number made of each id and time: an event that is lost, added, moved or there
-- twice instead of another changes it.

with

events as (

    select
        cast(occurred_at as date) as occurred_date,
        channel,
        touchpoint,
        content_number(event_id, cast(occurred_at as bigint)) as number
    from events

),

unnested as (

    select
        unnest(event_ids) as event_id,
        unnest(channels) as channel,
        unnest(touchpoints) as touchpoint,
        unnest(times) as occurred_at
    from journeys

),

touches as (

    select
        cast(occurred_at as date) as occurred_date,
        channel,
        touchpoint,
        content_number(event_id, cast(occurred_at as bigint)) as number
    from unnested

),

events_by_cell as (

    select
        occurred_date,
        channel,
        touchpoint,
        count(*) as events,
        sum(cast(number as decimal(38, 0))) as number
    from events
    group by occurred_date, channel, touchpoint

),

touches_by_cell as (

    select
        occurred_date,
        channel,
        touchpoint,
        count(*) as touches,
        sum(cast(number as decimal(38, 0))) as number
    from touches
    group by occurred_date, channel, touchpoint

),

offending as (

    select
        coalesce(events_by_cell.occurred_date, touches_by_cell.occurred_date)
            as occurred_date,
        coalesce(events_by_cell.channel, touches_by_cell.channel) as channel,
        coalesce(events_by_cell.touchpoint, touches_by_cell.touchpoint)
            as touchpoint,
        events_by_cell.events,
        touches_by_cell.touches,
        events_by_cell.number as number_of_events,
        touches_by_cell.number as number_of_touches
    from events_by_cell
    full join touches_by_cell
        on
            events_by_cell.occurred_date = touches_by_cell.occurred_date
            and events_by_cell.channel = touches_by_cell.channel
            and events_by_cell.touchpoint = touches_by_cell.touchpoint
    where
        (events_by_cell.events is distinct from touches_by_cell.touches)
        or (events_by_cell.number is distinct from touches_by_cell.number)

)

select * from offending
