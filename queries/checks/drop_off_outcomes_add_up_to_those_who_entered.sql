-- The attempts of a funnel, told by their outcome, add up to those that entered it.

with

drop_offs as (

    select funnel, sum(attempts) as attempts
    from drop_offs
    group by funnel

),

entries as (

    select funnel, sum(entered) as entered
    from funnel_steps
    where step = 1
    group by funnel

),

offending as (

    select
        coalesce(drop_offs.funnel, entries.funnel) as funnel,
        drop_offs.attempts,
        entries.entered
    from drop_offs
    full join entries on drop_offs.funnel = entries.funnel
    where drop_offs.attempts is distinct from entries.entered

)

select * from offending
