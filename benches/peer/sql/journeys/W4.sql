-- W4 strict funnel: as W3, but a step before its turn, or a breaker, ends a customer's attempt.

with

customers as (

    select
        first_at(
            channels,
            touchpoints,
            'product_view'
        ) as channel,
        journey_funnel(
            times,
            touchpoints,
            channels,
            [
                'product_view',
                'add_to_cart',
                'checkout_start',
                'purchase'
            ],
            interval '7 days',
            named_struct(
                'mode', 'strict_order',
                'among', ['remove_from_cart', 'payment_failed']
            )
        ) as furthest_step
    from journeys

),

levels as (

    select channel, furthest_step, count(*) as customers
    from customers
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
having max(levels.furthest_step) >= 1
