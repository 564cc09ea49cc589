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

attempts as (

    select
        funnel,
        customer_id,
        outcome,
        next_touchpoint,
        next_channel,
        furthest_step as step,
        seconds_to_next
    from int_funnel_attempts

),

attempts_by_customer as (

    select
        funnel,
        step,
        outcome,
        next_touchpoint,
        next_channel,
        customer_id
    from attempts
    group by
        funnel,
        step,
        outcome,
        next_touchpoint,
        next_channel,
        customer_id

),

reach as (

    select
        funnel,
        step,
        outcome,
        next_touchpoint,
        next_channel,
        count(*) as customers
    from attempts_by_customer
    group by funnel, step, outcome, next_touchpoint, next_channel

),

summarised as (

    select
        funnel,
        step,
        outcome,
        next_touchpoint,
        next_channel,
        count(*) as attempts,
        median(seconds_to_next) as median_seconds_to_next
    from attempts
    group by funnel, step, outcome, next_touchpoint, next_channel

),

drop_offs as (

    select
        summarised.funnel,
        summarised.step,
        summarised.outcome,
        summarised.next_touchpoint,
        summarised.next_channel,
        summarised.attempts,
        reach.customers,
        summarised.median_seconds_to_next
    from summarised
    inner join reach
        on
            summarised.funnel = reach.funnel
            and summarised.step = reach.step
            and summarised.outcome = reach.outcome
            and summarised.next_touchpoint = reach.next_touchpoint
            and summarised.next_channel = reach.next_channel

)

select * from drop_offs
