-- Customers: the golden record, one row per customer that has an event.
--
-- grain:      customer_id
-- build:      incremental by customer
-- ages:       configured
-- publish:    file
-- checks:     unique(customer_id); not_null(lifecycle_state, value_total, first_seen_at);
--             accepted_values(lifecycle_state, 'new', 'returning', 'resurrected', 'dormant')
-- columns:
--   customer_id: the customer: derived from the earliest identifier, so it survives growth and merges
--   identifier_count: identifiers of the customer
--   identifier_kinds: how many of each kind, such as email=2,user_id=1; empty without any
--   channels: distinct channels, ascending, joined with a comma
--   lifecycle_state: at as-of: new, returning, resurrected (back after silence) or dormant (silent over the journey
--     timeout)
--   event_count: events of the customer
--   session_count: sessions of the customer
--   journey_count: journeys of the customer
--   converted_count: journeys that reached their goal
--   value_total: sum of the values of all events, 0 without any [units of currency]
--   latest_csat: last customer satisfaction score; null without any [points on the scale of csat]
--   latest_ces: last customer effort score; null without any [points on the scale of ces]
--   latest_nps: last answer to the net promoter question; null without any [points on the scale of nps]
--   first_seen_date: day of first_seen_at
--   first_seen_at: time of the first event
--   last_seen_at: time of the last event

with

settings as (

    select
        settings.session_timeout,
        settings.journey_timeout,
        as_of.as_of,
        as_of.as_of + interval '1 microsecond' as later,
        as_of.as_of - settings.journey_timeout as silent_before
    from settings
    cross join as_of

),

timelines as (

    select * from int_timelines

),

identifiers as (

    select customer_id, identifier_count, identifier_kinds
    from identity_customers

),

summarised as (

    select
        timelines.customer_id,
        settings.silent_before,
        array_to_string(
            array_sort(array_distinct(path_collapse(channels))),
            ','
        ) as channels,
        array_to_string(scores, ',') as scores,
        cast(cardinality(times) as bigint) as event_count,
        cast(cardinality(run_starts(times, settings.session_timeout)) as bigint)
            as session_count,
        list_sum(
            arrow_cast(
                journey_starts(times, is_goals, settings.journey_timeout),
                'List(Int64)'
            )
        ) as journey_count,
        list_sum(arrow_cast(is_goals, 'List(Int64)')) as converted_count,
        list_sum("values") as value_total,
        times[1] as first_seen_at,
        times[-1] as last_seen_at,
        -- The times up to as-of, and the first in any case.
        case
            when times[-1] <= settings.as_of then times
            else
                array_slice(
                    times,
                    1,
                    greatest(
                        cast(
                            array_position(
                                array_sort(array_append(times, settings.later)),
                                settings.later
                            ) as bigint
                        ) - 1,
                        1
                    )
                )
        end as times_so_far,
        settings.journey_timeout
    from settings
    cross join timelines

),

with_runs as (

    select
        *,
        run_starts(times_so_far, journey_timeout) as run_starts,
        times_so_far[-1] as last_seen_so_far
    from summarised

),

-- A run is a time of activity without silence over the journey timeout.
with_state as (

    select
        *,
        case
            when last_seen_so_far < silent_before then 'dormant'
            when cardinality(run_starts) = 1 and first_seen_at >= silent_before
                then 'new'
            when cardinality(run_starts) > 1 and run_starts[-1] >= silent_before
                then 'resurrected'
            else 'returning'
        end as lifecycle_state
    from with_runs

),

-- All scores of a customer as one text: the pattern takes as much of it as it can, so it finds the last of its kind. Most
-- customers gave none, and are passed over.
with_scores as (

    select
        *,
        case
            when scores <> '' then regexp_match(scores, '.*csat=([^,]*)')[1]
        end as latest_csat,
        case
            when scores <> '' then regexp_match(scores, '.*ces=([^,]*)')[1]
        end as latest_ces,
        case
            when scores <> '' then regexp_match(scores, '.*nps=([^,]*)')[1]
        end as latest_nps
    from with_state

),

customers as (

    select
        with_scores.customer_id,
        coalesce(identifiers.identifier_count, 0) as identifier_count,
        coalesce(identifiers.identifier_kinds, '') as identifier_kinds,
        with_scores.channels,
        with_scores.lifecycle_state,
        with_scores.event_count,
        with_scores.session_count,
        with_scores.journey_count,
        with_scores.converted_count,
        with_scores.value_total,
        cast(with_scores.latest_csat as decimal(18, 4)) as latest_csat,
        cast(with_scores.latest_ces as decimal(18, 4)) as latest_ces,
        cast(with_scores.latest_nps as decimal(18, 4)) as latest_nps,
        cast(with_scores.first_seen_at as date) as first_seen_date,
        with_scores.first_seen_at,
        with_scores.last_seen_at
    from identifiers
    right join with_scores on identifiers.customer_id = with_scores.customer_id

)

select * from customers
