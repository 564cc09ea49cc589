-- The sessions of a customer hold as many events, and as much value, as the customer has; those of all customers, as many
-- as there are events.

with

sessions as (

    select customer_id, touch_count, value from sessions

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

)

select * from offending
