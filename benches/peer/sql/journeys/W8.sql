-- W8 drop-off: where customers who do not finish W3's funnel go from the touch that brought them furthest.

with

funnels as (

    select
        times,
        touchpoints,
        journey_funnel_positions(
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
        ) as positions
    from journeys

),

stopped as (

    select
        times,
        touchpoints,
        cardinality(positions) as step,
        positions[-1] as stop
    from funnels
    where cardinality(positions) between 1 and 4

),

-- A session ends before the first start behind the stop.
placed as (

    select
        step,
        stop,
        touchpoints,
        cast(array_position(
            array_append(gap_starts(times, interval '30 minutes'), true),
            true,
            stop + 1
        ) as bigint) - 1 as session_end
    from stopped

),

outcomes as (

    select
        step,
        case
            when session_end > stop then touchpoints[stop + 1]
            else '(exit)'
        end as next_touchpoint,
        touchpoints[session_end] as last_touchpoint
    from placed

),

counted as (

    select step, 'next' as kind, next_touchpoint as touchpoint, count(*) as customers
    from outcomes
    group by step, next_touchpoint
    union all
    select step, 'last' as kind, last_touchpoint as touchpoint, count(*) as customers
    from outcomes
    group by step, last_touchpoint

),

ranked as (

    select
        *,
        row_number() over (
            partition by step, kind
            order by customers desc, touchpoint
        ) as rank
    from counted

)

select step, kind, rank, touchpoint, customers
from ranked
where rank <= 5
