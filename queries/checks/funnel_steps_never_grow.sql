-- No step of a funnel is reached by more attempts than the step before it, and the first by all that entered.

with

funnel_steps as (

    select
        funnel,
        entered_date,
        entry_channel,
        step,
        entered,
        reached,
        converted_to_next,
        lag(reached) over (
            partition by funnel, entered_date, entry_channel
            order by step
        ) as reached_before
    from funnel_steps

),

offending as (

    select *
    from funnel_steps
    where
        reached > coalesce(reached_before, entered)
        or step = 1 and reached <> entered
        or converted_to_next > reached

)

select * from offending
