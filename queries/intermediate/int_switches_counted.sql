-- Switches, counted: by both channels, scope and day.
--
-- grain:      from_channel, to_channel, scope, switched_date
-- build:      incremental by sum(switches)
-- publish:    no
-- columns:
--   from_channel: channel of the touch before the switch
--   to_channel: channel of the touch after it
--   scope: within (both touches are in one session) or between
--   switches: neighbouring touches of a journey that change from one channel to the other
--   customers: distinct customers who did
--   converted_after: switches in journeys that reached their goal
--   exited_after: switches whose second touch is the last of a journey that is expired
--   repeated_after: switches whose second touch is on the touchpoint of the first: a sign of friction
--   switched_date: day of the second touch

with

switches as (

    select * from int_switches

),

switches_by_customer as (

    select
        from_channel,
        to_channel,
        scope,
        customer_id,
        count(*) as switches,
        count(*) filter (where is_converted) as converted_after,
        count(*) filter (where is_exit) as exited_after,
        count(*) filter (where is_repeat) as repeated_after,
        switched_date
    from switches
    group by from_channel, to_channel, scope, switched_date, customer_id

),

switches_counted as (

    select
        from_channel,
        to_channel,
        scope,
        sum(switches) as switches,
        count(*) as customers,
        sum(converted_after) as converted_after,
        sum(exited_after) as exited_after,
        sum(repeated_after) as repeated_after,
        switched_date
    from switches_by_customer
    group by from_channel, to_channel, scope, switched_date

)

select * from switches_counted
