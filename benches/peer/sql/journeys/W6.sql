-- W6 transitions: the first eight edges of each session's collapsed path, with the median of the time between.

with

edges as (

    select
        unnest(
            path_flow(
                touchpoints,
                times,
                9,
                null,
                gap_starts(times, interval '30 minutes')
            )
        ) as edge
    from journeys

)

select
    edge['position'] as step,
    edge['from_touchpoint'] as from_tp,
    edge['to_touchpoint'] as to_tp,
    edge['journeys'] as n,
    edge['median_seconds'] * 1e6 as median_gap_us
from edges
where edge['position'] between 1 and 8 and edge['to_touchpoint'] <> '(exit)'
