-- Path edges, counted: journeys that go from one touchpoint to the next, by position in the path, and the times that they
-- took.
--
-- grain:      position, from_touchpoint, to_touchpoint
-- build:      incremental by sum(journeys)
-- publish:    no
-- columns:
--   position: place of the node from which the edge leads: 0 for (start), else 1 to 8
--   from_touchpoint: touchpoint from which the edge leads, or (start)
--   to_touchpoint: touchpoint at position + 1, (exit) where the path ends or (rest) where it goes on behind the 8th
--   journeys: journeys that take the edge
--   converted: of these, journeys that reached their goal
--   seconds: of each journey from reaching one touchpoint to reaching the next, ascending; none for (start) and (exit)
--     [seconds]

with

journeys as (

    select customer_id, touchpoints, times, is_converted from journeys

),

unnested as (

    select
        customer_id,
        is_converted,
        unnest(path_edges(touchpoints, times, 8)) as edge
    from journeys

),

edges as (

    select
        edge['position'] as position,
        edge['from_touchpoint'] as from_touchpoint,
        edge['to_touchpoint'] as to_touchpoint,
        is_converted,
        edge['seconds'] as seconds
    from unnested

),

edges_counted as (

    select
        position,
        from_touchpoint,
        to_touchpoint,
        count(*) as journeys,
        count(*) filter (where is_converted) as converted,
        array_sort(array_agg(seconds) filter (where seconds is not null))
            as seconds
    from edges
    group by position, from_touchpoint, to_touchpoint

)

select * from edges_counted
