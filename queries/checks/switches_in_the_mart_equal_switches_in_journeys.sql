-- The switches of all days, channels and scopes are those that the journeys count, and as many of them lie in journeys
-- that converted.

with

channel_switches as (

    select
        coalesce(sum(switches), 0) as switches,
        coalesce(sum(converted_after), 0) as converted_after
    from channel_switches

),

journeys as (

    select
        coalesce(sum(switch_count), 0) as switches,
        coalesce(sum(switch_count) filter (where is_converted), 0)
            as converted_after
    from journeys

),

offending as (

    select
        channel_switches.switches as switches_in_mart,
        journeys.switches as switches_in_journeys,
        channel_switches.converted_after as converted_after_in_mart,
        journeys.converted_after as converted_after_in_journeys
    from channel_switches
    cross join journeys
    where
        channel_switches.switches <> journeys.switches
        or channel_switches.converted_after <> journeys.converted_after

)

select * from offending
