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

counted as (

    select * from int_switches_counted

),

with_length as (

    select *, cast(cardinality(seconds) as bigint) as length
    from int_switch_gaps

),

gaps as (

    select
        from_channel,
        to_channel,
        scope,
        (seconds[(length + 1) / 2] + seconds[(length + 2) / 2]) / 2
            as median_gap_seconds,
        switched_date
    from with_length

),

channel_switches as (

    select
        counted.from_channel,
        counted.to_channel,
        counted.scope,
        counted.switches,
        counted.customers,
        counted.converted_after,
        counted.exited_after,
        counted.repeated_after,
        gaps.median_gap_seconds,
        counted.switched_date
    from counted
    inner join gaps
        on
            counted.from_channel = gaps.from_channel
            and counted.to_channel = gaps.to_channel
            and counted.scope = gaps.scope
            and counted.switched_date = gaps.switched_date

)

select * from channel_switches
