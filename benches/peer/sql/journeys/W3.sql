-- W3 funnel: customers by the channel of their first step 1 and the steps that they reach within 7 days.

with

customers as (

    select
        first_at(
            channels,
            touchpoints,
            'ad_click|email_click|sms_click|push_open|landing_page'
        ) as channel,
        journey_funnel(
            times,
            touchpoints,
            channels,
            [
                'ad_click|email_click|sms_click|push_open|landing_page',
                'product_view',
                'add_to_cart',
                'checkout_start',
                'purchase'
            ],
            interval '7 days'
        ) as furthest_step
    from journeys

),

levels as (

    select channel, furthest_step, count(*) as customers
    from customers
    group by channel, furthest_step

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
having max(levels.furthest_step) >= 1
