-- Next cells, counted: where visits of a cell of the stage and channel map go next, by the day on which they began.
--
-- grain:      stage, channel, next_stage, next_channel, occurred_date
-- build:      incremental by sum(visits)
-- publish:    no
-- columns:
--   stage: stage of the lifecycle; (none) for touches without one
--   channel: the channel
--   next_stage: stage of the cell that the journey goes to next
--   next_channel: channel of the cell that the journey goes to next
--   visits: visits that go there
--   occurred_date: day on which the visits began

with

visits as (

    select stage, channel, next_stage, next_channel, occurred_date
    from int_visits
    where next_channel is not null

),

next_cells as (

    select
        stage,
        channel,
        next_stage,
        next_channel,
        count(*) as visits,
        occurred_date
    from visits
    group by stage, channel, next_stage, next_channel, occurred_date

)

select * from next_cells
