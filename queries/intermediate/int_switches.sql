-- Switches: one row per change of the channel inside a journey.
--
-- build:      view
-- publish:    no
-- columns:
--   customer_id: the customer
--   from_channel: channel of the first touch
--   to_channel: channel of the second touch
--   scope: within (both touches are in one session) or between
--   seconds: from the first touch to the second [seconds]
--   is_converted: whether the journey reached its goal
--   is_exit: whether the second touch is the last of a journey that is expired
--   is_repeat: whether both touches are on one touchpoint
--   switched_date: day of the second touch

with

journeys as (

    select customer_id, state, channels, touchpoints, session_ids, times
    from journeys
    where switch_count > 0

),

unnested as (

    select
        customer_id,
        state,
        unnest(channel_switches(channels, times, touchpoints, session_ids))
            as switch
    from journeys

),

switches as (

    select
        customer_id,
        switch['from_channel'] as from_channel,
        switch['to_channel'] as to_channel,
        switch['scope'] as scope,
        switch['seconds'] as seconds,
        state = 'converted' as is_converted,
        switch['is_last'] and state = 'expired' as is_exit,
        switch['is_repeat'] as is_repeat,
        cast(switch['switched_at'] as date) as switched_date
    from unnested

)

select * from switches
