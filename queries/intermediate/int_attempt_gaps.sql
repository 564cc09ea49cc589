-- Attempt gaps: how long it took until something came after the furthest step of funnel attempts, by how they ended and
-- what came. A median of them is told without the attempts.
--
-- grain:      funnel, step, outcome, next_touchpoint, next_channel
-- build:      incremental by sum(attempts)
-- publish:    no
-- columns:
--   funnel: name of the funnel
--   step: furthest step that the attempts reached, from 1
--   outcome: converted, open, timed_out or left
--   next_touchpoint: touchpoint right after the furthest step; (converted), (open) or (exit) where there is none
--   next_channel: channel right after the furthest step; (converted), (open) or (exit) where there is none
--   attempts: attempts, one per journey that entered the funnel
--   seconds: from the furthest step of each attempt to the next touch, where there is one, ascending [seconds]

with

attempt_gaps as (

    select
        funnel,
        furthest_step as step,
        outcome,
        next_touchpoint,
        next_channel,
        count(*) as attempts,
        array_sort(
            array_agg(seconds_to_next)
                filter (where seconds_to_next is not null)
        ) as seconds
    from int_funnel_attempts
    group by funnel, furthest_step, outcome, next_touchpoint, next_channel

)

select * from attempt_gaps
