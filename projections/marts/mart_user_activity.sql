-- mart_user_activity: how many orders each user has in each order status, and what they are worth.
--
-- One row per user and order status; a user without orders has none (inner join).
--   user_id, first_name, last_name   the user
--   status                           status of the orders counted in this row; NULL is a group of its own
--   order_count                      number of those orders
--   total_spent                      sum of their total_amount; NULL if none of them has an amount
--
-- This statement is the definition: the table of the same name is kept equal to its result.

SELECT
    users.user_id,
    users.first_name,
    users.last_name,
    orders.status,
    COUNT(*)                 AS order_count,
    SUM(orders.total_amount) AS total_spent
FROM users
JOIN orders ON orders.user_id = users.user_id
GROUP BY users.user_id, users.first_name, users.last_name, orders.status
