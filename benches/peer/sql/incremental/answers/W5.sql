-- W5 paths, from the counts of all batches.

with

counted as (

    select path, sum(sessions) as sessions, sum(converted) as converted
    from w5
    group by path

),

most_taken as (

    select path, sessions, converted
    from counted
    order by sessions desc, path
    limit 100

)

select
    path,
    sessions,
    converted,
    cast(converted as double) / sessions as conversion_rate,
    row_number() over (order by sessions desc, path) as rank
from most_taken
