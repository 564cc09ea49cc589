-- W5 paths: the 100 paths that most sessions take, their touchpoints collapsed and cut after the eighth.

with

most_taken as (

    select
        unnest(
            top_paths(
                100,
                touchpoints,
                8,
                is_goals,
                gap_starts(times, interval '30 minutes')
            )
        ) as taken
    from journeys

)

select
    array_to_string(taken['path'], '>') as path,
    taken['journeys'] as sessions,
    taken['converted'] as converted,
    cast(taken['converted'] as double) / taken['journeys'] as conversion_rate,
    taken['rank'] as rank
from most_taken
