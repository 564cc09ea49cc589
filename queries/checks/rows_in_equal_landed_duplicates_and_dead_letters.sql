-- Every record of a batch became an event, a duplicate or a dead letter, and the events are there.

with

data_quality as (

    select source, batch, rows_in, landed, duplicates, dead_letters
    from data_quality

),

events as (

    select source, batch, count(*) as events
    from events
    group by source, batch

),

offending as (

    select
        coalesce(data_quality.source, events.source) as source,
        coalesce(data_quality.batch, events.batch) as batch,
        data_quality.rows_in,
        data_quality.landed,
        data_quality.duplicates,
        data_quality.dead_letters,
        events.events
    from data_quality
    full join events
        on
            data_quality.source = events.source
            and data_quality.batch = events.batch
    where
        data_quality.rows_in is null
        or data_quality.rows_in <> (
            data_quality.landed
            + data_quality.duplicates
            + data_quality.dead_letters
        )
        or data_quality.landed <> coalesce(events.events, 0)

)

select * from offending
