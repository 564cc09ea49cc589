-- W5 paths: the 100 paths that most sessions take, their touchpoints collapsed and cut after the eighth.

with

sessions as (

    select
        unnest(
            split_at(
                named_struct(
                    'touchpoints', touchpoints,
                    'is_goals', is_goals
                ),
                gap_starts(times, interval '30 minutes')
            )
        ) as session
    from journeys

),

paths as (

    select
        path_text(session['touchpoints'], 8) as path,
        list_any(session['is_goals']) as is_converted
    from sessions

),

counted as (

    select
        path,
        count(*) as sessions,
        count(*) filter (where is_converted) as converted
    from paths
    group by path

),

-- A path of eight and a longer one that begins with it are one here.
cut as (

    select
        replace(replace(path, ' > …', ''), ' > ', '>') as path,
        sum(sessions) as sessions,
        sum(converted) as converted
    from counted
    group by 1

),

most_taken as (

    select path, sessions, converted
    from cut
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
