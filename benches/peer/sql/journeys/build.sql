-- The journeys layout: the events of each customer in order of (event_time, event_id), as parallel lists.

with

ordered as (

    select
        customer_id,
        timeline(
            event_time,
            event_id,
            named_struct(
                'touchpoints', touchpoint,
                'channels', channel,
                'values', value,
                'is_goals', touchpoint = 'purchase'
            )
        ) as timeline
    from events
    group by customer_id

)

select
    customer_id,
    timeline['touchpoints'] as touchpoints,
    timeline['channels'] as channels,
    timeline['values'] as "values",
    timeline['is_goals'] as is_goals,

    timeline['times'] as times
from ordered
order by customer_id
