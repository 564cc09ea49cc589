-- Days of events: how many events of each source occurred on each day.
--
-- grain:      source, occurred_date
-- build:      incremental by sum(events)
-- publish:    no
-- columns:
--   events: events that occurred on the day
--   as in events: source, occurred_date

with

events as (

    select
        source,
        occurred_date
    from events

),

event_days as (

    select
        source,
        occurred_date,
        count(*) as events
    from events
    group by source, occurred_date

)

select * from event_days
