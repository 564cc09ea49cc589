-- Funnel attempts, counted: by the furthest step, how they ended and what came next.
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
--   customers: distinct customers of these attempts

with

attempts as (

    select
        funnel,
        customer_id,
        outcome,
        next_touchpoint,
        next_channel,
        furthest_step as step
    from int_funnel_attempts

),

attempts_by_customer as (

    select
        funnel,
        step,
        outcome,
        next_touchpoint,
        next_channel,
        customer_id,
        count(*) as attempts
    from attempts
    group by
        funnel,
        step,
        outcome,
        next_touchpoint,
        next_channel,
        customer_id

),

attempts_counted as (

    select
        funnel,
        step,
        outcome,
        next_touchpoint,
        next_channel,
        sum(attempts) as attempts,
        count(*) as customers
    from attempts_by_customer
    group by funnel, step, outcome, next_touchpoint, next_channel

)

select * from attempts_counted
