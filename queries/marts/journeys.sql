-- Journeys: a customer's events from the first touch to the goal, or to silence over the journey timeout. The lists hold
-- one element per touch, in order.
--
-- grain:      journey_id
-- build:      incremental by customer
-- ages:       configured
-- publish:    by day(started_date)
-- checks:     unique(journey_id); not_null(customer_id, state, value, started_at);
--             accepted_values(state, 'open', 'converted', 'expired')
-- columns:
--   journey_id: the journey: derived from its first event
--   customer_id: the customer
--   state: at as-of: converted (ends with a goal), expired (silent over the journey timeout) or open
--   entry_channel: channel of the first touch
--   entry_touchpoint: touchpoint of the first touch
--   exit_channel: channel of the last touch
--   exit_touchpoint: touchpoint of the last touch
--   event_ids: event of each touch, in order
--   session_ids: session of each touch
--   touchpoints: touchpoint of each touch
--   channels: channel of each touch
--   stages: stage of each touch; null where it has none
--   values: value of each touch; null where it has none [units of currency]
--   times: time of each touch
--   touch_count: touches of the journey
--   session_count: distinct sessions that it touches
--   switch_count: neighbouring touches on different channels
--   value: sum of the values of its events, 0 without any [units of currency]
--   is_converted: whether it ends with a goal
--   started_date: day of started_at
--   started_at: time of the first touch
--   ended_at: time of the last touch so far

with

settings as (

    select
        settings.session_timeout,
        settings.journey_timeout,
        as_of.as_of - settings.journey_timeout as silent_before
    from settings
    cross join as_of

),

timelines as (

    select * from int_timelines

),

with_sessions as (

    select
        timelines.customer_id,
        settings.silent_before,
        named_struct(
            'event_ids', event_ids,
            'session_ids', run_ids(
                'session',
                event_ids,
                gap_starts(times, settings.session_timeout)
            ),
            'touchpoints', touchpoints,
            'channels', channels,
            'stages', stages,
            'values', "values",
            'is_goals', is_goals,
            'times', times
        ) as timeline,
        journey_starts(times, is_goals, settings.journey_timeout) as starts
    from settings
    cross join timelines

),

cut as (

    select
        customer_id,
        silent_before,
        unnest(split_at(timeline, starts)) as journey
    from with_sessions

),

opened as (

    select
        customer_id,
        silent_before,
        journey['event_ids'] as event_ids,
        journey['session_ids'] as session_ids,
        journey['touchpoints'] as touchpoints,
        journey['channels'] as channels,
        journey['stages'] as stages,
        journey['values'] as "values",
        journey['times'] as times,
        list_any(journey['is_goals']) as is_converted,
        journey['times'][1] as started_at,
        journey['times'][-1] as ended_at
    from cut

),

journeys as (

    select
        content_id('journey', event_ids[1]) as journey_id,
        customer_id,
        case
            when is_converted then 'converted'
            when ended_at < silent_before then 'expired'
            else 'open'
        end as state,
        channels[1] as entry_channel,
        touchpoints[1] as entry_touchpoint,
        channels[-1] as exit_channel,
        touchpoints[-1] as exit_touchpoint,
        event_ids,
        session_ids,
        touchpoints,
        channels,
        stages,
        "values",
        times,
        cast(cardinality(times) as bigint) as touch_count,
        count_switches(session_ids) + 1 as session_count,
        count_switches(channels) as switch_count,
        list_sum("values") as value,
        is_converted,
        cast(started_at as date) as started_date,
        started_at,
        ended_at
    from opened

)

select * from journeys
