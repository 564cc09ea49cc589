-- As many journeys come to a node of the paths as leave it.

with

path_edges as (

    select position, from_touchpoint, to_touchpoint, journeys
    from path_edges

),

inflow as (

    select
        position + 1 as position,
        to_touchpoint as touchpoint,
        sum(journeys) as came
    from path_edges
    where to_touchpoint not in ('(exit)', '(rest)')
    group by 1, 2

),

outflow as (

    select
        position,
        from_touchpoint as touchpoint,
        sum(journeys) as went
    from path_edges
    where position > 0
    group by 1, 2

),

offending as (

    select
        coalesce(inflow.position, outflow.position) as position,
        coalesce(inflow.touchpoint, outflow.touchpoint) as touchpoint,
        inflow.came,
        outflow.went
    from inflow
    full join outflow
        on
            inflow.position = outflow.position
            and inflow.touchpoint = outflow.touchpoint
    where inflow.came is distinct from outflow.went

)

select * from offending
