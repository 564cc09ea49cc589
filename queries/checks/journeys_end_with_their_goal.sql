-- A goal is the last touch of a journey that has converted, and no journey has converted without one; its state says so.

with

goals as (

    select touchpoint, channel from goals group by touchpoint, channel

),

journeys as (

    select
        journey_id,
        state,
        touchpoints,
        channels,
        touch_count,
        is_converted,
        exit_touchpoint,
        exit_channel
    from journeys

),

touches as (

    select
        journey_id,
        is_converted,
        touch_count,
        unnest(touchpoints) as touchpoint,
        unnest(channels) as channel,
        unnest(range(1, touch_count + 1)) as position
    from journeys

),

misplaced_goals as (

    select touches.journey_id, touches.touchpoint, touches.position
    from goals
    inner join touches
        on
            goals.touchpoint = touches.touchpoint
            and (goals.channel is null or goals.channel = touches.channel)
    where touches.position < touches.touch_count or not touches.is_converted

),

converted_without_goal as (

    select
        journeys.journey_id,
        journeys.exit_touchpoint as touchpoint,
        journeys.touch_count as position
    from journeys
    left anti join goals
        on
            journeys.exit_touchpoint = goals.touchpoint
            and (goals.channel is null or goals.channel = journeys.exit_channel)
    where journeys.is_converted

),

wrong_states as (

    select
        journey_id,
        exit_touchpoint as touchpoint,
        touch_count as position
    from journeys
    where (state = 'converted') <> is_converted

),

offending as (

    select * from misplaced_goals

    union all

    select * from converted_without_goal

    union all

    select * from wrong_states

)

select * from offending
