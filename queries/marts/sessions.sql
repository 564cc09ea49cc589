-- Sessions: a customer's events, on all channels, with no gap over the session timeout.
--
-- grain:      session_id
-- build:      incremental by customer
-- publish:    by day(started_date)
-- checks:     unique(session_id); not_null(customer_id, value, started_at)
-- columns:
--   session_id: the session: derived from its first event
--   customer_id: the customer
--   entry_channel: channel of the first touch
--   entry_touchpoint: touchpoint of the first touch
--   exit_channel: channel of the last touch
--   exit_touchpoint: touchpoint of the last touch
--   touch_count: touches of the session
--   channel_count: distinct channels
--   switch_count: neighbouring touches on different channels
--   value: sum of the values of its events, 0 without any [units of currency]
--   is_converted: whether it holds a goal
--   started_date: day of started_at
--   started_at: time of the first touch
--   ended_at: time of the last touch

with

settings as (

    select session_timeout from settings

),

timelines as (

    select * from int_timelines

),

cut as (

    select
        timelines.customer_id,
        unnest(
            split_at(
                named_struct(
                    'event_ids', event_ids,
                    'touchpoints', touchpoints,
                    'channels', channels,
                    'values', "values",
                    'is_goals', is_goals,
                    'times', times
                ),
                gap_starts(times, settings.session_timeout)
            )
        ) as session
    from settings
    cross join timelines

),

sessions as (

    select
        content_id('session', session['event_ids'][1]) as session_id,
        customer_id,
        session['channels'][1] as entry_channel,
        session['touchpoints'][1] as entry_touchpoint,
        session['channels'][-1] as exit_channel,
        session['touchpoints'][-1] as exit_touchpoint,
        cast(cardinality(session['times']) as bigint) as touch_count,
        count_distinct(session['channels']) as channel_count,
        count_switches(session['channels']) as switch_count,
        list_sum(session['values']) as value,
        list_any(session['is_goals']) as is_converted,
        cast(session['times'][1] as date) as started_date,
        session['times'][1] as started_at,
        session['times'][-1] as ended_at
    from cut

)

select * from sessions
