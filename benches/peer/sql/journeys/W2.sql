-- W2 sessions: the sessions of each customer in order, with what they begin and end with.

with

customers as (

    select
        customer_id,
        split_at(
            named_struct('times', times, 'channels', channels),
            gap_starts(times, interval '30 minutes')
        ) as sessions
    from journeys

),

numbered as (

    select
        customer_id,
        unnest(sessions) as session,
        unnest(range(1, cast(cardinality(sessions) as bigint) + 1))
            as session_no
    from customers

)

select
    customer_id,
    session_no,
    session['times'][1] as start_us,
    session['times'][-1] as end_us,
    cardinality(session['times']) as n_events,
    session['channels'][1] as first_channel,
    session['channels'][-1] as last_channel,
    count_switches(session['channels']) as n_switches
from numbered
