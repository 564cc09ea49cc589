-- The paths of all days have the journeys, those that converted and their value.

with

paths as (

    select
        coalesce(sum(journeys), 0) as journeys,
        coalesce(sum(converted), 0) as converted,
        coalesce(sum(value), 0) as value
    from paths

),

journeys as (

    select
        count(*) as journeys,
        count(*) filter (where is_converted) as converted,
        coalesce(sum(value), 0) as value
    from journeys

),

offending as (

    select
        paths.*,
        journeys.journeys as journeys_in_table,
        journeys.converted as converted_in_table,
        journeys.value as value_in_table
    from paths
    cross join journeys
    where
        paths.journeys <> journeys.journeys
        or paths.converted <> journeys.converted
        or paths.value <> journeys.value

)

select * from offending
