-- Visit stays: how long visits took, by stage, channel and day. A median of them is told without the visits.
--
-- grain:      stage, channel, occurred_date
-- build:      incremental by sum(entries)
-- publish:    no
-- columns:
--   stage: stage of the lifecycle; (none) for touches without one
--   channel: the channel
--   entries: visits that began on this day
--   seconds: from the first touch of each visit to the first one after it, else to its own last, ascending [seconds]
--   occurred_date: day on which the visits began

with

visit_stays as (

    select
        stage,
        channel,
        count(*) as entries,
        array_sort(array_agg(seconds)) as seconds,
        occurred_date
    from int_visits
    group by stage, channel, occurred_date

)

select * from visit_stays
