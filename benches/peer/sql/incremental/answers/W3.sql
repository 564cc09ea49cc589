-- W3 funnel, from the counts of all batches.

with

levels as (

    select channel, furthest_step, sum(customers) as customers
    from w3
    group by channel, furthest_step
    having sum(customers) > 0

),

steps as (

    select column1 as step from (values (1), (2), (3), (4), (5))

)

select
    levels.channel,
    steps.step,
    sum(
        case
            when levels.furthest_step >= steps.step then levels.customers
            else 0
        end
    ) as customers
from levels
cross join steps
group by levels.channel, steps.step
