-- Switch gaps: the times that switches took, by both channels, scope and day. A median of them is told without the switches.
--
-- grain:      from_channel, to_channel, scope, switched_date
-- build:      incremental by sum(switches)
-- publish:    no
-- columns:
--   from_channel: channel of the touch before the switch
--   to_channel: channel of the touch after it
--   scope: within (both touches are in one session) or between
--   switches: neighbouring touches of a journey that change from one channel to the other
--   seconds: from the first touch of each switch to the second, ascending [seconds]
--   switched_date: day of the second touch

with

switch_gaps as (

    select
        from_channel,
        to_channel,
        scope,
        count(*) as switches,
        array_sort(array_agg(seconds)) as seconds,
        switched_date
    from int_switches
    group by from_channel, to_channel, scope, switched_date

)

select * from switch_gaps
