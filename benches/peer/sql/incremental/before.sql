-- What is known of the customers of a batch.

select customer_id, touchpoints, channels, is_goals, times
from journeys_of_customers
where customer_id in (select customer_id from batch)
