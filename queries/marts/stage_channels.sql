-- Stages and channels: who reaches each cell of the map, how long they stay, where they go next and what they say there.
-- A visit is a run of touches in one cell and counts on the day of its first touch; a score counts on its own day.
--
-- grain:      stage, channel, occurred_date
-- build:      incremental by day(occurred_date)
-- publish:    file
-- checks:     unique(stage, channel, occurred_date); not_null(touches, reach, entries)
-- columns:
--   stage: stage of the lifecycle; (none) for touches without one
--   channel: the channel
--   touches: touches in visits that began on this day
--   reach: distinct customers of these visits
--   entries: visits that began on this day; a visit is a run of a journey's touches in one cell
--   exits: visits that are the last of a journey that is expired
--   converted: visits in journeys that reached their goal
--   median_seconds: median time from the first touch of a visit to the first one after it, else to its own last
--     [seconds]
--   next_stage: stage of the cell that most visits go to next; null when none does
--   next_channel: channel of the cell that most visits go to next; null when none does
--   conversion_rate: converted / entries [0 to 1]
--   mean_csat: mean customer satisfaction score of the events of this day; null without any [points on the scale of
--     csat]
--   mean_ces: mean customer effort score of the events of this day; null without any [points on the scale of ces]
--   mean_nps: mean answer to the net promoter question of the events of this day; null without any [points on the
--     scale of nps]
--   occurred_date: day on which the visits began and the scores were given

with

counted as (

    select * from int_visits_counted

),

with_length as (

    select *, cast(cardinality(seconds) as bigint) as length
    from int_visit_stays

),

stays as (

    select
        stage,
        channel,
        (seconds[(length + 1) / 2] + seconds[(length + 2) / 2]) / 2
            as median_seconds,
        occurred_date
    from with_length

),

ranked_next_cells as (

    select
        *,
        row_number() over (
            partition by stage, channel, occurred_date
            order by visits desc, next_stage, next_channel
        ) as rank
    from int_next_cells

),

visited as (

    select
        counted.*,
        stays.median_seconds,
        ranked_next_cells.next_stage,
        ranked_next_cells.next_channel
    from counted
    inner join stays
        on
            counted.stage = stays.stage
            and counted.channel = stays.channel
            and counted.occurred_date = stays.occurred_date
    left join ranked_next_cells
        on
            counted.stage = ranked_next_cells.stage
            and counted.channel = ranked_next_cells.channel
            and counted.occurred_date = ranked_next_cells.occurred_date
            and ranked_next_cells.rank = 1

),

-- Sums are exact decimals; only the quotient is a float.
scores_by_kind as (

    select
        stage,
        channel,
        score_kind,
        cast(score as double) / responses as mean_score,
        occurred_date
    from int_scores_summed

),

scores as (

    select
        stage,
        channel,
        max(mean_score) filter (where score_kind = 'csat') as mean_csat,
        max(mean_score) filter (where score_kind = 'ces') as mean_ces,
        max(mean_score) filter (where score_kind = 'nps') as mean_nps,
        occurred_date
    from scores_by_kind
    group by stage, channel, occurred_date

),

stage_channels as (

    select
        coalesce(visited.stage, scores.stage) as stage,
        coalesce(visited.channel, scores.channel) as channel,
        coalesce(visited.touches, 0) as touches,
        coalesce(visited.reach, 0) as reach,
        coalesce(visited.entries, 0) as entries,
        coalesce(visited.exits, 0) as exits,
        coalesce(visited.converted, 0) as converted,
        visited.median_seconds,
        visited.next_stage,
        visited.next_channel,
        cast(visited.converted as double) / visited.entries as conversion_rate,
        scores.mean_csat,
        scores.mean_ces,
        scores.mean_nps,
        coalesce(visited.occurred_date, scores.occurred_date) as occurred_date
    from visited
    full join scores
        on
            visited.stage = scores.stage
            and visited.channel = scores.channel
            and visited.occurred_date = scores.occurred_date

)

select * from stage_channels
