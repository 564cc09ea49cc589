-- W9 retention: customers by the week of their first event and the weeks after it in which they come again.

with

-- Weeks since a Monday before all events, so that 63 of them are bits of a number.
events_by_week as (

    select
        customer_id,
        (
            cast(event_time as bigint)
            - cast(timestamp '2024-12-30T00:00:00' as bigint) / 1000
        ) / 604800000000 as week
    from events

),

customers as (

    select
        customer_id,
        min(week) as cohort,
        bit_or(1 << week) as weeks
    from events_by_week
    group by customer_id

),

-- Few sets of weeks are many customers'.
counted as (

    select cohort, weeks, count(*) as customers
    from customers
    group by cohort, weeks

),

weeks as (

    select unnest(range(0, 63)) as week

)

select
    date '2024-12-30' + cast(cohort * 7 as int) as cohort_week,
    week - cohort as week_offset,
    sum(customers) as customers
from counted
cross join weeks
where (weeks >> week) & 1 = 1
group by cohort, week
