-- W6 transitions: the first eight edges of each session's collapsed path, with the median of the time between.

with

sessions as (

    select
        unnest(
            split_at(
                named_struct('touchpoints', touchpoints, 'times', times),
                gap_starts(times, interval '30 minutes')
            )
        ) as session
    from journeys

),

edges as (

    select
        unnest(
            path_edges(session['touchpoints'], session['times'], 9)
        ) as edge
    from sessions
    where cardinality(session['times']) > 1

)

select
    edge['position'] as step,
    edge['from_touchpoint'] as from_tp,
    edge['to_touchpoint'] as to_tp,
    count(*) as n,
    median(edge['seconds']) * 1e6 as median_gap_us
from edges
where edge['position'] between 1 and 8 and edge['to_touchpoint'] <> '(exit)'
group by 1, 2, 3
