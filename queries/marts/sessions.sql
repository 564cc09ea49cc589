-- Sessions: a customer's events, on all channels, with no gap over the session timeout.
--
-- grain:      session_id
-- build:      incremental by customer
-- publish:    by day(started_date)
-- checks:     unique(session_id); not_null(customer_id, value, started_at)

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
