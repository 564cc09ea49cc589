-- Funnel attempts: how far each journey that entered a funnel got, how the attempt ended and what came next.
--
-- grain:      funnel, journey_id
-- build:      incremental by customer
-- publish:    no

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

matched as (

    select
        funnels.funnel,
        funnels.steps,
        funnels.step_count,
        funnels.attempt_window,
        journeys.*,
        journey_funnel_positions(
            journeys.times,
            journeys.touchpoints,
            journeys.channels,
            funnels.steps,
            funnels.attempt_window
        ) as step_positions
    from funnels
    cross join journeys

),

entered as (

    select
        *,
        cast(cardinality(step_positions) as bigint) as furthest_step,
        times[step_positions[1]] as entered_at,
        times[step_positions[-1]] as reached_at,
        times[step_positions[-1] + 1] as next_at
    from matched
    where cardinality(step_positions) > 0

),

-- A newer entry opens a newer window, in which the attempt can still get further.
with_window as (

    select
        *,
        times[
            journey_funnel_last_entry(
                times,
                touchpoints,
                channels,
                steps,
                attempt_window
            )
        ] + attempt_window as closes_at
    from entered

),

with_outcome as (

    select
        with_window.*,
        case
            when with_window.furthest_step = with_window.step_count
                then 'converted'
            when
                with_window.state = 'open'
                and as_of.as_of <= with_window.closes_at
                then 'open'
            when with_window.ended_at > with_window.closes_at then 'timed_out'
            else 'left'
        end as outcome
    from as_of
    cross join with_window

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
