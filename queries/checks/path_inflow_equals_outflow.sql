-- As many journeys, and as many that converted, come to a node of the paths as leave it; every journey leaves the start.

with

path_edges as (

    select position, from_touchpoint, to_touchpoint, journeys, converted
    from path_edges

),

journeys as (

    select is_converted from journeys

),

started as (

    select
        cast(0 as bigint) as position,
        '(start)' as touchpoint,
        count(*) as came,
        count(*) filter (where is_converted) as converted
    from journeys

),

came as (

    select
        position + 1 as position,
        to_touchpoint as touchpoint,
        sum(journeys) as came,
        sum(converted) as converted
    from path_edges
    where to_touchpoint not in ('(exit)', '(rest)')
    group by position, to_touchpoint

),

inflow as (

    select * from came

    union all

    select * from started
    where came > 0

),

outflow as (

    select
        position,
        from_touchpoint as touchpoint,
        sum(journeys) as went,
        sum(converted) as converted
    from path_edges
    group by position, from_touchpoint

),

offending as (

    select
        coalesce(inflow.position, outflow.position) as position,
        coalesce(inflow.touchpoint, outflow.touchpoint) as touchpoint,
        inflow.came,
        outflow.went,
        inflow.converted as came_converted,
        outflow.converted as went_converted
    from inflow
    full join outflow
        on
            inflow.position = outflow.position
            and inflow.touchpoint = outflow.touchpoint
    where
        (inflow.came is distinct from outflow.went)
        or (inflow.converted is distinct from outflow.converted)

)

select * from offending
