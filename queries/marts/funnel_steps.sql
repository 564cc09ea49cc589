-- Funnel steps: of the attempts that entered a funnel on one day by one channel, how many reached each step, and how long
-- the way from the step before took.
--
-- grain:      funnel, entered_date, entry_channel, step
-- build:      incremental by day(entered_date)
-- publish:    file
-- checks:     unique(funnel, entered_date, entry_channel, step); not_null(entered, reached)
-- columns:
--   funnel: name of the funnel
--   entry_channel: channel of the touch that matched step 1
--   step: number of the step, from 1
--   step_name: the step as configured
--   entered: attempts that entered on this day by this channel; the same at every step
--   reached: attempts that reached this step
--   converted_to_next: attempts that reached the next step; null at the last one
--   median_seconds: median time from the step before; null at step 1 and where none reached it [seconds]
--   p90_seconds: time from the step before that 9 of 10 do not exceed; null as median_seconds [seconds]
--   entered_date: day on which the attempts entered

with

funnels as (

    select funnel, steps, step_count from funnels

),

steps as (

    select
        funnel,
        unnest(steps) as step_name,
        unnest(range(1, step_count + 1)) as step
    from funnels

),

entries as (

    select * from int_entries_counted

),

with_length as (

    select *, cast(cardinality(seconds) as bigint) as length
    from int_steps_counted

),

-- The 90th percentile lies `ninths / 10` elements behind the first; percentile_cont would round the fraction to 6 digits.
with_rank as (

    select
        *,
        (seconds[(length + 1) / 2] + seconds[(length + 2) / 2]) / 2
            as median_seconds,
        9 * (length - 1) as ninths
    from with_length

),

with_percentile as (

    select
        *,
        seconds[ninths / 10 + 1] as lower_seconds,
        coalesce(
            seconds[ninths / 10 + 2] - seconds[ninths / 10 + 1],
            0
        ) * (ninths % 10) / 10 as upper_seconds
    from with_rank

),

-- Every group has a row for every step, reached or not.
framed as (

    select
        entries.funnel,
        entries.entry_channel,
        steps.step,
        steps.step_name,
        entries.entered,
        entries.entered_date
    from entries
    inner join steps on entries.funnel = steps.funnel

),

with_reached as (

    select
        framed.*,
        coalesce(with_percentile.reached, 0) as reached,
        with_percentile.median_seconds,
        with_percentile.lower_seconds + with_percentile.upper_seconds
            as p90_seconds
    from framed
    left join with_percentile
        on
            framed.funnel = with_percentile.funnel
            and framed.entry_channel = with_percentile.entry_channel
            and framed.step = with_percentile.step
            and framed.entered_date = with_percentile.entered_date

),

funnel_steps as (

    select
        funnel,
        entry_channel,
        step,
        step_name,
        entered,
        reached,
        lead(reached) over (
            partition by funnel, entered_date, entry_channel
            order by step
        ) as converted_to_next,
        median_seconds,
        p90_seconds,
        entered_date
    from with_reached

)

select * from funnel_steps
