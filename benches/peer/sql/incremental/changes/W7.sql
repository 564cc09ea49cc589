-- W7: how many channel switches more or fewer there are, and what comes of them.

with

switches as (

    select
        sign,
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
    from changed

)

select
    switch['scope'] as scope,
    switch['from_channel'] as from_channel,
    switch['to_channel'] as to_channel,
    sum(sign) as switches,
    -- A row of journeys is a customer.
    sum(case when switch['is_new'] then sign else 0 end) as customers,
    sum(sign * cast(round(switch['seconds'] * 1e6) as bigint)) as gap_us,
    sum(
        case
            when switch['seconds_to_goal'] <= 7 * 86400 then sign else 0
        end
    ) as converted
from switches
group by 1, 2, 3
