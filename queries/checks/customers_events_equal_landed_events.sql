-- All customers together have the events that landed, and their sessions and journeys are those of the tables.

with

customers as (

    select
        coalesce(sum(event_count), 0) as events,
        coalesce(sum(session_count), 0) as sessions,
        coalesce(sum(journey_count), 0) as journeys,
        coalesce(sum(converted_count), 0) as converted
    from customers

),

events as (

    select count(*) as events from events

),

sessions as (

    select count(*) as sessions from sessions

),

journeys as (

    select
        count(*) as journeys,
        count(*) filter (where is_converted) as converted
    from journeys

),

offending as (

    select
        customers.*,
        events.events as landed_events,
        sessions.sessions as sessions_in_table,
        journeys.journeys as journeys_in_table,
        journeys.converted as converted_in_table
    from customers
    cross join events
    cross join sessions
    cross join journeys
    where
        customers.events <> events.events
        or customers.sessions <> sessions.sessions
        or customers.journeys <> journeys.journeys
        or customers.converted <> journeys.converted

)

select * from offending
