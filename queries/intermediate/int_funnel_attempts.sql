-- Funnel attempts: how far each journey that entered a funnel got, how the attempt ended and what came next.
--
-- grain:      funnel, journey_id
-- build:      incremental by customer
-- ages:       configured
-- publish:    no
-- columns:
--   funnel: name of the funnel
--   journey_id: the journey that entered it
--   customer_id: the customer of the journey
--   entry_channel: channel of the touch that matched step 1
--   outcome: converted (reached the last step), else open (can still get further), timed_out (the journey went on
--     after the window) or left
--   next_touchpoint: touchpoint right after the furthest matched one; (converted), (open) or (exit) where there is
--     none
--   next_channel: channel right after the furthest matched one; (converted), (open) or (exit) where there is none
--   step_positions: place in the journey, from 1, of the touch that matched each step
--   chain_times: times of the journey's touches from the first matched one to the last matched one
--   furthest_step: furthest step reached, from 1
--   seconds_to_next: from the furthest matched touch to the next one; null where there is none [seconds]
--   entered_date: day of entered_at
--   entered_at: time of the touch that matched step 1

with

funnels as (

    select * from funnels

),

as_of as (

    select as_of from as_of

),

journeys as (

    select
        journey_id,
        customer_id,
        state,
        touchpoints,
        channels,
        times,
        ended_at
    from journeys

),

-- A journey that does not enter a funnel has no attempt to unnest. (A condition would be met twice: the engine moves it
-- below what it is made of.)
unnested as (

    select
        funnels.funnel,
        funnels.step_count,
        funnels.attempt_window,
        journeys.*,
        unnest(
            journey_funnel_attempts(
                journeys.times,
                journeys.touchpoints,
                journeys.channels,
                funnels.steps,
                funnels.attempt_window
            )
        ) as attempt
    from funnels
    cross join journeys

),

matched as (

    select
        *,
        attempt['step_positions'] as step_positions,
        attempt['last_entry'] as last_entry
    from unnested

),

-- A newer entry opens a newer window, in which the attempt can still get further.
entered as (

    select
        *,
        cast(cardinality(step_positions) as bigint) as furthest_step,
        times[step_positions[1]] as entered_at,
        times[step_positions[-1]] as reached_at,
        times[step_positions[-1] + 1] as next_at,
        times[last_entry] + attempt_window as closes_at
    from matched

),

with_outcome as (

    select
        entered.*,
        case
            when entered.furthest_step = entered.step_count
                then 'converted'
            when
                entered.state = 'open'
                and as_of.as_of <= entered.closes_at
                then 'open'
            when entered.ended_at > entered.closes_at then 'timed_out'
            else 'left'
        end as outcome
    from as_of
    cross join entered

),

-- An attempt that nothing follows goes nowhere, and this is how it is written.
with_nowhere as (

    select
        *,
        case
            when outcome in ('converted', 'open') then concat('(', outcome, ')')
            else '(exit)'
        end as nowhere
    from with_outcome

),

attempts as (

    select
        funnel,
        journey_id,
        customer_id,
        channels[step_positions[1]] as entry_channel,
        outcome,
        coalesce(touchpoints[step_positions[-1] + 1], nowhere)
            as next_touchpoint,
        coalesce(channels[step_positions[-1] + 1], nowhere) as next_channel,
        step_positions,
        array_slice(times, step_positions[1], step_positions[-1]) as chain_times,
        furthest_step,
        (cast(next_at as bigint) - cast(reached_at as bigint)) / 1e6
            as seconds_to_next,
        cast(entered_at as date) as entered_date,
        entered_at
    from with_nowhere

)

select * from attempts
