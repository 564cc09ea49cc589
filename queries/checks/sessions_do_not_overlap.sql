-- A customer's next session starts more than the session timeout after the last one ended, and no session ends before
-- it starts.

with

settings as (

    select session_timeout from settings

),

sessions as (

    select
        session_id,
        customer_id,
        started_at,
        ended_at,
        lead(started_at) over (
            partition by customer_id
            order by started_at, ended_at
        ) as next_started_at
    from sessions

),

offending as (

    select
        sessions.session_id,
        sessions.customer_id,
        sessions.started_at,
        sessions.ended_at,
        sessions.next_started_at
    from settings
    cross join sessions
    where
        sessions.ended_at < sessions.started_at
        or sessions.next_started_at
            <= sessions.ended_at + settings.session_timeout

)

select * from offending
