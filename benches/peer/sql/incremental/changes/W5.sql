-- W5: how many sessions more or fewer take a path.

with

sessions as (

    select
        sign,
        unnest(
            split_at(
                named_struct(
                    'touchpoints', touchpoints,
                    'is_goals', is_goals
                ),
                gap_starts(times, interval '30 minutes')
            )
        ) as session
    from changed

),

paths as (

    select
        sign,
        path_text(session['touchpoints'], 8) as path,
        list_any(session['is_goals']) as is_converted
    from sessions

),

counted as (

    select
        path,
        sum(sign) as sessions,
        sum(case when is_converted then sign else 0 end) as converted
    from paths
    group by path

)

-- A path of eight and a longer one that begins with it are one here.
select
    replace(replace(path, ' > …', ''), ' > ', '>') as path,
    sessions,
    converted
from counted
where sessions <> 0 or converted <> 0
