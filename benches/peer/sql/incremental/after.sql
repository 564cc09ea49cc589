-- The customers of a batch with its events in their places.

with

known as (

    select
        customer_id,
        unnest(times) as event_time,
        unnest(touchpoints) as touchpoint,
        unnest(channels) as channel,
        unnest(is_goals) as is_goal
    from before

),

all_events as (

    select customer_id, event_time, touchpoint, channel, is_goal from known
    union all
    select
        customer_id,
        event_time,
        touchpoint,
        channel,
        touchpoint = 'purchase' as is_goal
    from batch

),

-- No customer has two events of one time.
ordered as (

    select
        customer_id,
        timeline(
            event_time,
            '',
            named_struct(
                'touchpoints', touchpoint,
                'channels', channel,
                'is_goals', is_goal
            )
        ) as timeline
    from all_events
    group by customer_id

)

select
    customer_id,
    timeline['touchpoints'] as touchpoints,
    timeline['channels'] as channels,
    timeline['is_goals'] as is_goals,
    timeline['times'] as times
from ordered
