-- Visits: one row per run of a journey's touches in one cell of the stage and channel map.
--
-- build:      view
-- publish:    no
-- columns:
--   customer_id: the customer
--   stage: stage of the touches; (none) where they have none
--   channel: channel of the touches
--   next_stage: stage of the cell that the journey goes to next; null where it ends
--   next_channel: channel of the cell that the journey goes to next; null where it ends
--   touch_count: touches in the cell
--   seconds: from the first touch in the cell to the first one after it, else to its own last [seconds]
--   is_exit: whether it is the last visit of a journey that is expired
--   is_converted: whether the journey reached its goal
--   occurred_date: day of its first touch

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
