-- Visits, counted: by stage, channel and day.
--
-- grain:      stage, channel, occurred_date
-- build:      incremental by sum(entries)
-- publish:    no
-- columns:
--   stage: stage of the lifecycle; (none) for touches without one
--   channel: the channel
--   touches: touches in visits that began on this day
--   reach: distinct customers of these visits
--   entries: visits that began on this day
--   exits: visits that are the last of a journey that is expired
--   converted: visits in journeys that reached their goal
--   occurred_date: day on which the visits began

with

visits as (

    select * from int_visits

),

visits_by_customer as (

    select
        stage,
        channel,
        customer_id,
        sum(touch_count) as touches,
        count(*) as entries,
        count(*) filter (where is_exit) as exits,
        count(*) filter (where is_converted) as converted,
        occurred_date
    from visits
    group by stage, channel, occurred_date, customer_id

),

visits_counted as (

    select
        stage,
        channel,
        sum(touches) as touches,
        count(*) as reach,
        sum(entries) as entries,
        sum(exits) as exits,
        sum(converted) as converted,
        occurred_date
    from visits_by_customer
    group by stage, channel, occurred_date

)

select * from visits_counted
