-- mart_product_rating: the average rating of each product that has reviews.
--
-- One row per product; a product without reviews has none (inner join).
--   product_id, name   the product
--   rating             mean of its reviews' ratings, reviews without rating left out, to four decimal
--                      places; NULL if no review has a rating
--
-- This statement is the definition: the table of the same name is kept equal to its result.

SELECT
    products.product_id,
    products.name,
    AVG(reviews.rating) AS rating
FROM products
JOIN reviews ON reviews.product_id = products.product_id
GROUP BY products.product_id, products.name
