-- W10 attribution: purchases and their revenue spread over the channels of the touches in the 30 days before, by rules
-- and by the removal effects of a Markov chain.

with

buyers as (

    select times, channels, is_goals, "values"
    from journeys
    where list_any(is_goals)

),

conversions as (

    select
        unnest(
            goal_touches(
                named_struct(
                    'times', times,
                    'channels', channels,
                    'values', "values"
                ),
                is_goals,
                interval '30 days'
            )
        ) as conversion
    from buyers

),

touches as (

    select
        conversion['goal'] as goal,
        conversion['touches']['channels'] as channels,
        conversion['touches']['times'] as times
    from conversions

),

-- A purchase without touches is credited to `(none)`.
touched as (

    select
        goal['values'] as value,
        case
            when cardinality(channels) > 0 then channels
            else
                arrow_cast(
                    ['(none)'], 'List(nullable Dictionary(Int32, Utf8))'
                )
        end as channels,
        case when cardinality(times) > 0 then times else [goal['times']] end
            as times
    from touches

),

weighted as (

    select
        value,
        unnest(channels) as channel,
        unnest(attribution_weights('first', channels)) as first,
        unnest(attribution_weights('last', channels)) as last,
        unnest(attribution_weights('linear', channels)) as linear,
        unnest(attribution_weights('position_based', channels)) as position,
        unnest(attribution_weights('time_decay', channels, times))
            as time_decay
    from touched

),

credited as (

    select
        channel,
        sum(first) as first,
        sum(first * value) as first_value,
        sum(last) as last,
        sum(last * value) as last_value,
        sum(linear) as linear,
        sum(linear * value) as linear_value,
        sum(position) as position,
        sum(position * value) as position_value,
        sum(time_decay) as time_decay,
        sum(time_decay * value) as time_decay_value
    from weighted
    group by channel

),

models as (

    select column1 as model
    from (
        values ('first'), ('last'), ('linear'), ('position'), ('time_decay')
    )

),

by_rule as (

    select
        model,
        channel,
        case model
            when 'first' then first
            when 'last' then last
            when 'linear' then linear
            when 'position' then position
            else time_decay
        end as credit,
        case model
            when 'first' then first_value
            when 'last' then last_value
            when 'linear' then linear_value
            when 'position' then position_value
            else time_decay_value
        end as revenue
    from credited
    cross join models

),

-- The journeys of the chain: cut behind each purchase.
chain as (

    select
        unnest(
            split_at(
                named_struct(
                    'channels', channels,
                    'is_goals', is_goals,
                    'values', "values"
                ),
                journey_starts(times, is_goals, interval '10000 days')
            )
        ) as journey
    from journeys

),

removal as (

    select channel, removal_effect, conversions, value
    from markov_attribution(
        (
            select
                path_collapse(
                    case
                        when journey['is_goals'][-1]
                            then array_pop_back(journey['channels'])
                        else journey['channels']
                    end
                ),
                journey['is_goals'][-1],
                not journey['is_goals'][-1],
                cast(journey['values'][-1] as decimal(18, 2))
            from chain
        ),
        1
    )

)

select model, channel, credit, revenue
from by_rule
union all
select
    kind as model,
    channel,
    case kind when 'markov' then conversions else removal_effect end
        as credit,
    case kind when 'markov' then cast(value as double) else 0.0 end
        as revenue
from removal
cross join (values ('markov'), ('markov_removal')) as kinds(kind)
