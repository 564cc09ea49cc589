-- Paths: journeys by the touchpoints that they go through. Equal neighbours are one; a path longer than 8 ends in `…`.
--
-- grain:      path, started_date
-- build:      view
-- publish:    file
-- checks:     unique(path, started_date); not_null(journeys, conversion_rate)
-- columns:
--   path: touchpoints of the journey, equal neighbours made one, the first 8 joined with >, and … when more follow
--   journeys: journeys that took the path
--   customers: distinct customers who did
--   converted: journeys that reached their goal
--   value: sum of the values of these journeys [units of currency]
--   conversion_rate: converted / journeys [0 to 1]
--   started_date: day on which the journeys started

with

paths_counted as (

    select * from int_paths_counted

),

paths as (

    select
        path,
        journeys,
        customers,
        converted,
        value,
        cast(converted as double) / journeys as conversion_rate,
        started_date
    from paths_counted

)

select * from paths
