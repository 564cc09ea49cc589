-- W7 channel switches: how often each channel gives way to each other, in a session and across sessions, and how many
-- switches a purchase follows within 7 days.

with

switches as (

    select
        unnest(
            channel_switches(
                channels,
                times,
                named_struct(
                    'session_gap', interval '30 minutes',
                    'timeout', interval '7 days',
                    'goals', is_goals
                )
            )
        ) as switch
    from journeys

),

gaps as (

    select
        switch['scope'] as scope,
        switch['from_channel'] as from_channel,
        switch['to_channel'] as to_channel,
        switch['is_new'] as is_new,
        cast(round(switch['seconds'] * 1e6) as bigint) as gap_us,
        switch['seconds_to_goal'] <= 7 * 86400 as is_converted
    from switches

),

counted as (

    select
        scope,
        from_channel,
        to_channel,
        count(*) as switches,
        -- A row of journeys is a customer.
        count(*) filter (where is_new) as customers,
        sum(gap_us) as sum_gap_us,
        count(*) filter (where is_converted) as converted
    from gaps
    group by scope, from_channel, to_channel

)

select
    case scope when 'within' then 'within' else 'across' end as scope,
    from_channel,
    to_channel,
    switches,
    customers,
    sum_gap_us,
    cast(sum_gap_us as double) / switches as mean_gap_us,
    converted
from counted
