-- Path edges: how many journeys go from one touchpoint to the next, by position in the path. As many edges lead into a
-- node as out of it.
--
-- grain:      position, from_touchpoint, to_touchpoint
-- build:      full
-- publish:    file
-- checks:     unique(position, from_touchpoint, to_touchpoint); not_null(journeys, converted)
-- columns:
--   position: place of the node from which the edge leads: 0 for (start), else 1 to 8
--   from_touchpoint: touchpoint from which the edge leads, or (start)
--   to_touchpoint: touchpoint at position + 1, (exit) where the path ends or (rest) where it goes on behind the 8th
--   journeys: journeys that take the edge
--   converted: of these, journeys that reached their goal
--   median_seconds: median time from reaching one touchpoint to reaching the next; null for (start) and (exit)
--     [seconds]

with

journeys as (

    select touchpoints, times, is_converted from journeys

),

unnested as (

    select is_converted, unnest(path_edges(touchpoints, times, 8)) as edge
    from journeys

),

path_edges as (

    select
        edge['position'] as position,
        edge['from_touchpoint'] as from_touchpoint,
        edge['to_touchpoint'] as to_touchpoint,
        count(*) as journeys,
        count(*) filter (where is_converted) as converted,
        median(edge['seconds']) as median_seconds
    from unnested
    group by 1, 2, 3

)

select * from path_edges
