-- Timelines: the events of each customer in order of (occurred_at, event_id), as parallel lists. A score is written
-- `kind=score`.
--
-- grain:      customer_id
-- build:      incremental by customer, merged by (times, event_ids)
-- publish:    no
-- columns:
--   customer_id: the customer
--   event_ids: id of each event
--   touchpoints: touchpoint of each event
--   channels: channel of each event
--   stages: stage of each event; null where it has none
--   scores: kind=score of each event; null where it has none
--   values: value of each event; null where it has none [units of currency]
--   is_goals: whether each event is a goal
--   times: time of each event

with

events as (

    select
        customer_id,
        event_id,
        touchpoint,
        channel,
        stage,
        score_kind || '=' || cast(score as varchar) as score,
        value,
        is_goal,
        occurred_at
    from int_events_resolved

),

ordered as (

    select
        customer_id,
        timeline(
            occurred_at,
            event_id,
            named_struct(
                'touchpoints', touchpoint,
                'channels', channel,
                'stages', stage,
                'scores', score,
                'values', value,
                'is_goals', is_goal
            )
        ) as timeline
    from events
    group by customer_id

),

timelines as (

    select
        customer_id,
        timeline['event_ids'] as event_ids,
        timeline['touchpoints'] as touchpoints,
        timeline['channels'] as channels,
        timeline['stages'] as stages,
        timeline['scores'] as scores,
        timeline['values'] as "values",
        timeline['is_goals'] as is_goals,
        timeline['times'] as times
    from ordered

)

select * from timelines
