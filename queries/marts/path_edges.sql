-- Path edges: how many journeys go from one touchpoint to the next, by position in the path. As many edges lead into a
-- node as out of it.
--
-- grain:      position, from_touchpoint, to_touchpoint
-- build:      view
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

with_length as (

    select *, cast(cardinality(seconds) as bigint) as length
    from int_edges_counted

),

path_edges as (

    select
        position,
        from_touchpoint,
        to_touchpoint,
        journeys,
        converted,
        (seconds[(length + 1) / 2] + seconds[(length + 2) / 2]) / 2
            as median_seconds
    from with_length

)

select * from path_edges
