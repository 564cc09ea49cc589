-- The touches of all stages, channels and days are the events that landed.

with

stage_channels as (

    select coalesce(sum(touches), 0) as touches from stage_channels

),

events as (

    select count(*) as events from events

),

offending as (

    select stage_channels.touches, events.events
    from stage_channels
    cross join events
    where stage_channels.touches <> events.events

)

select * from offending
