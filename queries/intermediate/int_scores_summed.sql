-- Scores, summed: what customers said by stage, channel, kind and day of the event.
--
-- grain:      stage, channel, score_kind, occurred_date
-- build:      incremental by sum(responses)
-- publish:    no
-- columns:
--   stage: stage of the event; (none) where it has none
--   channel: channel of the event
--   score_kind: csat, ces or nps
--   responses: scores that were given
--   score: sum of these scores [points on the scale of score_kind]
--   occurred_date: day on which they were given

with

scored_events as (

    select
        coalesce(stage, '(none)') as stage,
        channel,
        score_kind,
        score,
        occurred_date
    from stg_events
    where score is not null and score_kind is not null

),

scores_summed as (

    select
        stage,
        channel,
        score_kind,
        count(*) as responses,
        sum(score) as score,
        occurred_date
    from scored_events
    group by stage, channel, score_kind, occurred_date

)

select * from scores_summed
