-- Customers: the golden record, one row per customer that has an event.
--
-- grain:      customer_id
-- build:      incremental by customer
-- publish:    file
-- checks:     unique(customer_id); not_null(lifecycle_state, value_total, first_seen_at);
--             accepted_values(lifecycle_state, 'new', 'returning', 'resurrected', 'dormant')

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

scored_events as (

    select customer_id, event_id, score_kind, score, occurred_at
    from int_events_resolved
    where score is not null

),

identifiers_by_kind as (

    select customer_id, kind, count(*) as identifier_count
    from identity_map
    group by customer_id, kind

),

-- chr(1) sorts before all that a kind may hold, which `=` does not.
identifiers as (

    select
        customer_id,
        sum(identifier_count) as identifier_count,
        replace(
            array_to_string(
                array_sort(
                    array_agg(
                        concat(kind, chr(1), cast(identifier_count as varchar))
                    )
                ),
                ','
            ),
            chr(1),
            '='
        ) as identifier_kinds
    from identifiers_by_kind
    group by customer_id

),

latest_scores as (

    select
        customer_id,
        last_value(score order by occurred_at, event_id)
            filter (where score_kind = 'csat') as latest_csat,
        last_value(score order by occurred_at, event_id)
            filter (where score_kind = 'ces') as latest_ces,
        last_value(score order by occurred_at, event_id)
            filter (where score_kind = 'nps') as latest_nps
    from scored_events
    group by customer_id

),

summarised as (

    select
        timelines.customer_id,
        settings.silent_before,
        array_to_string(
            array_sort(array_distinct(path_collapse(channels))),
            ','
        ) as channels,
        cast(cardinality(times) as bigint) as event_count,
        cast(cardinality(run_starts(times, settings.session_timeout)) as bigint)
            as session_count,
        cast(
            cardinality(
                split_at(
                    named_struct('times', times),
                    journey_starts(times, is_goals, settings.journey_timeout)
                )
            ) as bigint
        ) as journey_count,
        list_sum(arrow_cast(is_goals, 'List(Int64)')) as converted_count,
        list_sum("values") as value_total,
        run_starts(times, settings.journey_timeout) as run_starts,
        times[1] as first_seen_at,
        times[-1] as last_seen_at
    from settings
    cross join timelines

),

-- A run is a time of activity without silence over the journey timeout.
with_state as (

    select
        *,
        case
            when last_seen_at < silent_before then 'dormant'
            when cardinality(run_starts) = 1 and first_seen_at >= silent_before
                then 'new'
            when cardinality(run_starts) > 1 and run_starts[-1] >= silent_before
                then 'resurrected'
            else 'returning'
        end as lifecycle_state
    from summarised

),

customers as (

    select
        with_state.customer_id,
        coalesce(identifiers.identifier_count, 0) as identifier_count,
        coalesce(identifiers.identifier_kinds, '') as identifier_kinds,
        with_state.channels,
        with_state.lifecycle_state,
        with_state.event_count,
        with_state.session_count,
        with_state.journey_count,
        with_state.converted_count,
        with_state.value_total,
        latest_scores.latest_csat,
        latest_scores.latest_ces,
        latest_scores.latest_nps,
        cast(with_state.first_seen_at as date) as first_seen_date,
        with_state.first_seen_at,
        with_state.last_seen_at
    from with_state
    left join identifiers on with_state.customer_id = identifiers.customer_id
    left join latest_scores
        on with_state.customer_id = latest_scores.customer_id

)

select * from customers
