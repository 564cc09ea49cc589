-- Drop-offs: how far attempts got, how they ended and where customers went instead. The outcomes of a funnel add up to
-- the attempts that entered it.
--
-- grain:      funnel, step, outcome, next_touchpoint, next_channel
-- build:      full
-- publish:    file
-- checks:     unique(funnel, step, outcome, next_touchpoint, next_channel);
--             accepted_values(outcome, 'converted', 'open', 'timed_out', 'left')
-- columns:
--   funnel: name of the funnel
--   step: furthest step that the attempts reached, from 1
--   outcome: converted (reached the last step), else open (can still get further), timed_out (the journey went on
--     after the window) or left
--   next_touchpoint: touchpoint right after the furthest step; (converted), (open) or (exit) where there is none
--   next_channel: channel right after the furthest step; (converted), (open) or (exit) where there is none
--   attempts: attempts, one per journey that entered the funnel
--   customers: distinct customers of these attempts
--   median_seconds_to_next: median time from the furthest step to the next touch; null where there is none [seconds]

with

counted as (

    select * from int_attempts_counted

),

with_length as (

    select *, cast(cardinality(seconds) as bigint) as length
    from int_attempt_gaps

),

gaps as (

    select
        funnel,
        step,
        outcome,
        next_touchpoint,
        next_channel,
        (seconds[(length + 1) / 2] + seconds[(length + 2) / 2]) / 2
            as median_seconds_to_next
    from with_length

),

drop_offs as (

    select
        counted.funnel,
        counted.step,
        counted.outcome,
        counted.next_touchpoint,
        counted.next_channel,
        counted.attempts,
        counted.customers,
        gaps.median_seconds_to_next
    from counted
    inner join gaps
        on
            counted.funnel = gaps.funnel
            and counted.step = gaps.step
            and counted.outcome = gaps.outcome
            and counted.next_touchpoint = gaps.next_touchpoint
            and counted.next_channel = gaps.next_channel

)

select * from drop_offs
