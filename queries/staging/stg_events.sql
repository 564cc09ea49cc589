-- Events as journeys read them: with the stage and the goals of the configuration, and the identifier that names the
-- customer.
--
-- grain:      event_id
-- build:      view
-- publish:    no
-- columns:
--   identity_key: kind:value of its strongest usable identifier; null when it has none
--   stage: stage of the lifecycle: the source's, else that of the configuration
--   is_goal: whether it is a goal of a journey
--   as in events: event_id, source, channel, touchpoint, direction, identifiers, campaign, experiment, variant,
--     currency, score_kind, properties, batch, value, score, occurred_date, occurred_at, received_at

with

-- The key comes before the join, which then need not carry the identifiers.
events as (

    select *, identity_key(identifiers) as identity_key
    from events

),

touchpoint_settings as (

    select
        touchpoint,
        stage,
        cast(null as varchar) as goal_channel,
        false as is_goal
    from touchpoint_stages

    union all

    select
        touchpoint,
        cast(null as varchar) as stage,
        channel as goal_channel,
        channel is null as is_goal
    from goals

),

-- One row per touchpoint, so that several goals never repeat an event.
settings_by_touchpoint as (

    select
        touchpoint,
        min(stage) as stage,
        array_agg(goal_channel) filter (where goal_channel is not null)
            as goal_channels,
        bool_or(is_goal) as is_goal
    from touchpoint_settings
    group by touchpoint

),

-- The settings stand on the left, since that is the side that a join keeps in memory.
with_settings as (

    select
        events.event_id,
        events.identity_key,
        events.source,
        events.channel,
        events.touchpoint,
        events.direction,
        coalesce(events.stage, settings_by_touchpoint.stage) as stage,
        events.identifiers,
        events.campaign,
        events.experiment,
        events.variant,
        events.currency,
        events.score_kind,
        events.properties,
        events.batch,
        events.value,
        events.score,
        case
            when settings_by_touchpoint.goal_channels is null
                then coalesce(settings_by_touchpoint.is_goal, false)
            else
                settings_by_touchpoint.is_goal
                or array_has(
                    settings_by_touchpoint.goal_channels,
                    events.channel
                )
        end as is_goal,
        events.occurred_date,
        events.occurred_at,
        events.received_at
    from settings_by_touchpoint
    right join events
        on settings_by_touchpoint.touchpoint = events.touchpoint

)

select * from with_settings
