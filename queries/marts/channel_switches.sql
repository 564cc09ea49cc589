-- Channel switches: how often customers change the channel inside a journey, how long they take, and what follows.
--
-- grain:      from_channel, to_channel, scope, switched_date
-- build:      incremental by day
-- publish:    file
-- checks:     unique(from_channel, to_channel, scope, switched_date); not_null(switches, median_gap_seconds);
--             accepted_values(scope, 'within', 'between')

with

journeys as (

    select customer_id, state, channels, touchpoints, session_ids, times
    from journeys
    where switch_count > 0

),

unnested as (

    select
        customer_id,
        state,
        unnest(channel_switches(channels, times, touchpoints, session_ids))
            as switch
    from journeys

),

switches as (

    select
        switch['from_channel'] as from_channel,
        switch['to_channel'] as to_channel,
        switch['scope'] as scope,
        customer_id,
        state,
        switch['seconds'] as seconds,
        switch['is_last'] as is_last,
        switch['is_repeat'] as is_repeat,
        cast(switch['switched_at'] as date) as switched_date
    from unnested

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
        count(*) filter (where state = 'converted') as converted_after,
        count(*) filter (where is_last and state = 'expired') as exited_after,
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
