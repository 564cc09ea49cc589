-- W4 strict funnel: as W3, but a step before its turn, or a breaker, ends a customer's attempt.

with

customers as (

    select
        customer_id,
        arg_min(channel, event_time) filter (
            where touchpoint = 'product_view'
        ) as channel,
        window_funnel(
            interval '7 days',
            'strict_order',
            event_time,
            touchpoint = 'product_view',
            touchpoint = 'add_to_cart',
            touchpoint = 'checkout_start',
            touchpoint = 'purchase'
        ) as furthest_step
    from events
    where
        touchpoint in (
            'product_view', 'add_to_cart', 'checkout_start', 'purchase',
            'remove_from_cart', 'payment_failed'
        )
    group by customer_id

),

levels as (

    select channel, furthest_step, count(*) as customers
    from customers
    where furthest_step >= 1
    group by channel, furthest_step

),

steps as (

    select column1 as step from (values (1), (2), (3), (4))

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
