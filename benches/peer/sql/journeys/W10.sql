-- W10 attribution: purchases and their revenue spread over the channels of the touches in the 30 days before, by rules
-- and by the removal effects of a Markov chain.

with

customers as (

    select
        times,
        channels,
        is_goals,
        arrow_cast("values", 'List(Decimal128(18, 2))') as "values"
    from journeys

),

by_rule as (

    select
        unnest(
            attribution_credits(
                ['first', 'last', 'linear', 'position_based', 'time_decay'],
                channels,
                times,
                is_goals,
                interval '30 days',
                "values"
            )
        ) as credit
    from customers

),

-- The journeys of the chain are cut behind each purchase.
removal as (

    select channel, removal_effect, conversions, value
    from markov_attribution(
        (
            select
                channels,
                is_goals,
                journey_starts(times, is_goals, interval '10000 days'),
                "values"
            from customers
        ),
        1
    )

)

select
    case credit['model']
        when 'position_based' then 'position'
        else credit['model']
    end as model,
    credit['channel'] as channel,
    credit['conversions'] as credit,
    credit['value'] as revenue
from by_rule
union all
select
    kind as model,
    channel,
    case kind when 'markov' then conversions else removal_effect end
        as credit,
    case kind when 'markov' then value else 0.0 end as revenue
from removal
cross join (values ('markov'), ('markov_removal')) as kinds(kind)
