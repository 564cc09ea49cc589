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
        touchpoints,
        cardinality(positions) as step,
        positions[-1] as stop,
        run_end(gap_starts(times, interval '30 minutes'), positions[-1])
            as session_end
    from funnels
    where cardinality(positions) between 1 and 4

),

outcomes as (

    select
        step,
        case
            when session_end > stop then touchpoints[stop + 1]
            else '(exit)'
        end as next_touchpoint,
        touchpoints[session_end] as last_touchpoint
    from stopped

),

-- Counted together, so that journeys are read once.
counted as (

    select step, next_touchpoint, last_touchpoint, count(*) as customers
    from outcomes
    group by step, next_touchpoint, last_touchpoint

),

by_kind as (

    select
        step,
        kind,
        case kind when 'next' then next_touchpoint else last_touchpoint end
            as touchpoint,
        sum(customers) as customers
    from counted
    cross join (values ('next'), ('last')) as kinds(kind)
    group by 1, 2, 3

),

ranked as (

    select
        *,
        row_number() over (
            partition by step, kind
            order by customers desc, touchpoint
        ) as rank
    from by_kind

)

select step, kind, rank, touchpoint, customers
from ranked
where rank <= 5
