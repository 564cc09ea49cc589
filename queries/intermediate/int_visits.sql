-- Visits: one row per run of a journey's touches in one cell of the stage and channel map. Kept narrow, since several
-- steps read it, and a statement would make it anew for each.
--
-- build:      incremental by customer
-- publish:    no

with

journeys as (

    select customer_id, state, stages, channels, times, is_converted
    from journeys

),

unnested as (

    select
        customer_id,
        state,
        is_converted,
        unnest(journey_cells(stages, channels, times)) as visit
    from journeys

),

visits as (

    select
        customer_id,
        visit['stage'] as stage,
        visit['channel'] as channel,
        visit['next_stage'] as next_stage,
        visit['next_channel'] as next_channel,
        visit['touch_count'] as touch_count,
        visit['seconds'] as seconds,
        visit['is_last'] and state = 'expired' as is_exit,
        is_converted,
        cast(visit['entered_at'] as date) as occurred_date
    from unnested

)

select * from visits
