-- The sessions of a customer hold as many events, and as much value, as the customer has; those of all customers, as many
-- as there are events. The journeys name each session for as many touches as it has, which a number made of its id tells.

with

sessions as (

    select session_id, customer_id, touch_count, value from sessions

),

journeys as (

    select session_ids from journeys

),

sessions_by_customer as (

    select
        customer_id,
        sum(touch_count) as touches,
        sum(value) as value
    from sessions
    group by customer_id

),

timelines as (

    select
        customer_id,
        cast(cardinality(event_ids) as bigint) as events,
        list_sum("values") as value
    from int_timelines

),

compared as (

    select
        coalesce(sessions_by_customer.customer_id, timelines.customer_id)
            as customer_id,
        sessions_by_customer.touches,
        timelines.events,
        sessions_by_customer.value as value_of_touches,
        timelines.value as value_of_events
    from sessions_by_customer
    full join timelines
        on sessions_by_customer.customer_id = timelines.customer_id

),

touches_in_all as (

    select
        coalesce(sum(touch_count), 0) as touches,
        coalesce(sum(value), 0) as value
    from sessions

),

events_in_all as (

    select count(*) as events, coalesce(sum(value), 0) as value
    from events

),

compared_in_all as (

    select
        '(all)' as customer_id,
        touches_in_all.touches,
        events_in_all.events,
        touches_in_all.value as value_of_touches,
        events_in_all.value as value_of_events
    from touches_in_all
    cross join events_in_all

),

numbers_in_sessions as (

    select
        coalesce(
            sum(
                cast(content_number(session_id, 0) as decimal(20, 0))
                * cast(touch_count as decimal(10, 0))
            ),
            0
        ) as number
    from sessions

),

named_sessions as (

    select unnest(session_ids) as session_id from journeys

),

numbers_in_journeys as (

    select
        coalesce(
            sum(cast(content_number(session_id, 0) as decimal(20, 0))),
            0
        ) as number
    from named_sessions

),

compared_in_journeys as (

    select
        '(session_ids of journeys)' as customer_id,
        numbers_in_sessions.number as touches,
        numbers_in_journeys.number as events
    from numbers_in_sessions
    cross join numbers_in_journeys

),

offending as (

    select * from compared
    where
        (touches is distinct from events)
        or (value_of_touches is distinct from value_of_events)

    union all

    select * from compared_in_all
    where
        touches <> events
        or value_of_touches <> value_of_events

    union all

    select
        customer_id,
        touches,
        events,
        null as value_of_touches,
        null as value_of_events
    from compared_in_journeys
    where touches <> events

)

select * from offending
