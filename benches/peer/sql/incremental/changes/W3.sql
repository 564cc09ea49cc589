-- W3: how many customers more or fewer have reached a step, by the channel of their first step 1.

with

customers as (

    select
        sign,
        channels[
            journey_funnel_positions(
                times,
                touchpoints,
                channels,
                [
                    'ad_click|email_click|sms_click|push_open|landing_page'
                ],
                interval '7 days'
            )[1]
        ] as channel,
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
    from changed

)

select channel, furthest_step, sum(sign) as customers
from customers
where furthest_step >= 1
group by channel, furthest_step
