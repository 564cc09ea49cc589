-- Channel days: how many customers each channel reached on each day, and with how many events.
--
-- grain:      channel, occurred_date
-- build:      full
-- publish:    file
-- checks:     unique(channel, occurred_date); not_null(customers)

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
