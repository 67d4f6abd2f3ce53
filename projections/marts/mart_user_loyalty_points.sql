-- mart_user_loyalty_points: the loyalty points that each user has collected.
--
-- One row per user; a user without entries in loyaltypoints has none (inner join).
--   user_id, first_name, last_name, loyalty_status   the user
--   total_loyalty_points                             sum of their points; NULL if no entry has points
--
-- This statement is the definition: the table of the same name is kept equal to its result.

SELECT
    users.user_id,
    users.first_name,
    users.last_name,
    users.loyalty_status,
    SUM(loyaltypoints.points) AS total_loyalty_points
FROM users
JOIN loyaltypoints ON loyaltypoints.user_id = users.user_id
GROUP BY users.user_id, users.first_name, users.last_name, users.loyalty_status
