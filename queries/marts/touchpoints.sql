-- Touchpoints: every event with its customer, session and journey, and its place in the journey.
--
-- grain:      event_id
-- build:      view
-- publish:    no
-- columns:
--   session_id: the session that it belongs to
--   journey_id: the journey that it belongs to
--   previous_channel: channel of the touch before it in the journey; null at its start
--   position: its place in the journey, from 1
--   seconds_since_previous: time since the touch before it in the journey; null at its start [seconds]
--   as in int_events_resolved: event_id, customer_id, source, channel, touchpoint, direction, stage, identifiers,
--     campaign, experiment, variant, currency, score_kind, properties, batch, value, score, occurred_date,
--     occurred_at, received_at

with

events as (

    select * from stg_events

),

journeys as (

    select
        journey_id,
        customer_id,
        event_ids,
        session_ids,
        channels,
        times,
        touch_count
    from journeys

),

-- Lists that are unnested together are walked together.
touches as (

    select
        customer_id,
        journey_id,
        unnest(event_ids) as event_id,
        unnest(session_ids) as session_id,
        unnest(range(1, touch_count + 1)) as position,
        unnest(array_prepend(null, array_pop_back(channels)))
            as previous_channel,
        unnest(array_prepend(null, array_pop_back(times))) as previous_at
    from journeys

),

touchpoints as (

    select
        events.event_id,
        touches.customer_id,
        touches.session_id,
        touches.journey_id,
        events.source,
        events.channel,
        events.touchpoint,
        events.direction,
        events.stage,
        events.identifiers,
        events.campaign,
        events.experiment,
        events.variant,
        events.currency,
        events.score_kind,
        events.properties,
        touches.previous_channel,
        events.batch,
        touches.position,
        events.value,
        events.score,
        (
            cast(events.occurred_at as bigint)
            - cast(touches.previous_at as bigint)
        ) / 1e6 as seconds_since_previous,
        events.occurred_date,
        events.occurred_at,
        events.received_at
    from touches
    inner join events on touches.event_id = events.event_id

)

select * from touchpoints
