-- W7 channel switches, from the counts of all batches.

with

counted as (

    select
        scope,
        from_channel,
        to_channel,
        sum(switches) as switches,
        sum(customers) as customers,
        sum(gap_us) as sum_gap_us,
        sum(converted) as converted
    from w7
    group by scope, from_channel, to_channel
    having sum(switches) > 0

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
