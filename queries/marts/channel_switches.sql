-- Channel switches: how often customers change the channel inside a journey, how long they take, and what follows.
--
-- grain:      from_channel, to_channel, scope, switched_date
-- build:      incremental by day(switched_date)
-- publish:    file
-- checks:     unique(from_channel, to_channel, scope, switched_date); not_null(switches, median_gap_seconds);
--             accepted_values(scope, 'within', 'between')
-- columns:
--   from_channel: channel of the touch before the switch
--   to_channel: channel of the touch after it
--   scope: within (both touches are in one session) or between
--   switches: neighbouring touches of a journey that change from one channel to the other
--   customers: distinct customers who did
--   converted_after: switches in journeys that reached their goal
--   exited_after: switches whose second touch is the last of a journey that is expired
--   repeated_after: switches whose second touch is on the touchpoint of the first: a sign of friction
--   median_gap_seconds: median time from the first touch to the second [seconds]
--   switched_date: day of the second touch

with

switches as (

    select * from int_switches

),

switches_by_customer as (

    select from_channel, to_channel, scope, switched_date, customer_id
    from switches
    group by from_channel, to_channel, scope, switched_date, customer_id

),

reach as (

    select
        from_channel,
        to_channel,
        scope,
        switched_date,
        count(*) as customers
    from switches_by_customer
    group by from_channel, to_channel, scope, switched_date

),

summarised as (

    select
        from_channel,
        to_channel,
        scope,
        count(*) as switches,
        count(*) filter (where is_converted) as converted_after,
        count(*) filter (where is_exit) as exited_after,
        count(*) filter (where is_repeat) as repeated_after,
        median(seconds) as median_gap_seconds,
        switched_date
    from switches
    group by from_channel, to_channel, scope, switched_date

),

channel_switches as (

    select
        summarised.from_channel,
        summarised.to_channel,
        summarised.scope,
        summarised.switches,
        reach.customers,
        summarised.converted_after,
        summarised.exited_after,
        summarised.repeated_after,
        summarised.median_gap_seconds,
        summarised.switched_date
    from summarised
    inner join reach
        on
            summarised.from_channel = reach.from_channel
            and summarised.to_channel = reach.to_channel
            and summarised.scope = reach.scope
            and summarised.switched_date = reach.switched_date

)

select * from channel_switches
