-- Paths, counted: journeys by the touchpoints that they go through and by the day on which they started. Equal neighbours
-- are one; a path longer than 8 ends in `…`.
--
-- grain:      path, started_date
-- build:      incremental by sum(journeys)
-- publish:    no
-- columns:
--   path: touchpoints of the journey, equal neighbours made one, the first 8 joined with >, and … when more follow
--   journeys: journeys that took the path
--   customers: distinct customers who did
--   converted: journeys that reached their goal
--   value: sum of the values of these journeys [units of currency]
--   started_date: day on which the journeys started

with

journeys as (

    select
        path_text(touchpoints, 8) as path,
        customer_id,
        value,
        is_converted,
        started_date
    from journeys

),

-- Grouped by customer first: a customer may take a path twice on a day.
paths_by_customer as (

    select
        path,
        customer_id,
        count(*) as journeys,
        count(*) filter (where is_converted) as converted,
        sum(value) as value,
        started_date
    from journeys
    group by path, started_date, customer_id

),

paths_counted as (

    select
        path,
        sum(journeys) as journeys,
        count(*) as customers,
        sum(converted) as converted,
        sum(value) as value,
        started_date
    from paths_by_customer
    group by path, started_date

)

select * from paths_counted
