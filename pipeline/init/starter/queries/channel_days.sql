-- Channel days: how many customers each channel reached on each day, and with how many events.
--
-- grain:      channel, occurred_date
-- build:      full
-- publish:    file
-- checks:     unique(channel, occurred_date); not_null(customers)
-- columns:
--   channel: the medium
--   customers: distinct customers who had an event there
--   events: events
--   occurred_date: day of the events

with

touches as (

    select channel, customer_id, cast(occurred_at as date) as occurred_date
    from touchpoints

),

channel_days as (

    select
        channel,
        count(distinct customer_id) as customers,
        count(*) as events,
        occurred_date
    from touches
    group by channel, occurred_date

)

select * from channel_days
