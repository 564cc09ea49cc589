-- Funnel steps, counted: attempts that reached each step, by entry channel and day of entry, and how long the way from the
-- step before took.
--
-- grain:      funnel, entry_channel, step, entered_date
-- build:      incremental by sum(reached)
-- publish:    no
-- columns:
--   funnel: name of the funnel
--   entry_channel: channel of the touch that matched step 1
--   step: number of the step, from 1
--   reached: attempts that reached this step
--   seconds: time of each attempt from the step before, ascending; none at step 1 [seconds]
--   entered_date: day on which the attempts entered

with

attempts as (

    select
        funnel,
        entry_channel,
        step_positions,
        chain_times,
        furthest_step,
        entered_date
    from int_funnel_attempts

),

-- The chain holds the times from the first matched touch to the last, so both lists beside the steps are short.
steps_reached as (

    select
        funnel,
        entry_channel,
        step_positions,
        chain_times,
        entered_date,
        unnest(range(1, furthest_step + 1)) as step
    from attempts

),

with_times as (

    select
        funnel,
        entry_channel,
        step,
        entered_date,
        chain_times[step_positions[step] - step_positions[1] + 1]
            as reached_at,
        case
            when step > 1 then
                chain_times[step_positions[step - 1] - step_positions[1] + 1]
        end as previous_at
    from steps_reached

),

with_seconds as (

    select
        funnel,
        entry_channel,
        step,
        entered_date,
        (cast(reached_at as bigint) - cast(previous_at as bigint)) / 1e6
            as seconds
    from with_times

),

steps_counted as (

    select
        funnel,
        entry_channel,
        step,
        count(*) as reached,
        array_sort(array_agg(seconds) filter (where seconds is not null))
            as seconds,
        entered_date
    from with_seconds
    group by funnel, entry_channel, step, entered_date

)

select * from steps_counted
