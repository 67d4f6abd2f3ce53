-- mart_average_check: what an order is worth on average, by order status and the user's loyalty status.
--
-- One row per pair of statuses that occurs. A user's orders, old ones included, count under the
-- loyalty status that the user has now. NULL is a status of its own.
--   status          status of the orders
--   loyalty_status  loyalty status of the users who placed them
--   average_check   mean of total_amount, orders without amount left out, with four decimal places
--                   more than total_amount; NULL if none of the orders has an amount
--
-- This statement is the definition: the table of the same name is kept equal to its result.

SELECT
    orders.status,
    users.loyalty_status,
    AVG(orders.total_amount) AS average_check
FROM users
JOIN orders ON orders.user_id = users.user_id
GROUP BY orders.status, users.loyalty_status
