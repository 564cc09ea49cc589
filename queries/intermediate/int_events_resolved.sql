-- Events with their customer. An event that nothing identifies is a customer of its own.
--
-- grain:      event_id
-- build:      view
-- publish:    no
-- columns:
--   customer_id: the customer: that of its strongest usable identifier, else one of its own
--   as in stg_events: event_id, identity_key, source, channel, touchpoint, direction, stage, identifiers, campaign,
--     experiment, variant, currency, score_kind, properties, batch, value, score, is_goal, occurred_date,
--     occurred_at, received_at

with

events as (

    select * from stg_events

),

identity_map as (

    select identity_key, customer_id from identity_map

),

resolved as (

    select
        coalesce(identity_map.customer_id, content_id('event', events.event_id))
            as customer_id,
        events.*
    from identity_map
    right join events on identity_map.identity_key = events.identity_key

)

select * from resolved
