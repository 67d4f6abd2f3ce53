//! The marts of the shop.

use super::mart::{Column, Dimension, Fact, Mart};

const USERS: Dimension = Dimension {
    table: "users",
    key: "user_id",
};

const ORDERS: Fact = Fact {
    table: "orders",
    key: &["order_id"],
    join: "user_id",
    value: "total_amount",
};

pub(super) const MARTS: [Mart; 4] = [
    Mart {
        name: "mart_user_activity",
        definition: include_str!("../../marts/mart_user_activity.sql"),
        fact: ORDERS,
        dimension: USERS,
        columns: &[
            Column::Dimension("user_id"),
            Column::Dimension("first_name"),
            Column::Dimension("last_name"),
            Column::Fact("status"),
            Column::Count("order_count"),
            Column::Sum("total_spent"),
        ],
    },
    Mart {
        name: "mart_product_rating",
        definition: include_str!("../../marts/mart_product_rating.sql"),
        fact: Fact {
            table: "reviews",
            key: &["review_id"],
            join: "product_id",
            value: "rating",
        },
        dimension: Dimension {
            table: "products",
            key: "product_id",
        },
        columns: &[
            Column::Dimension("product_id"),
            Column::Dimension("name"),
            Column::Average("rating"),
        ],
    },
    Mart {
        name: "mart_user_loyalty_points",
        definition: include_str!("../../marts/mart_user_loyalty_points.sql"),
        fact: Fact {
            table: "loyaltypoints",
            key: &["loyalty_id"],
            join: "user_id",
            value: "points",
        },
        dimension: USERS,
        columns: &[
            Column::Dimension("user_id"),
            Column::Dimension("first_name"),
            Column::Dimension("last_name"),
            Column::Dimension("loyalty_status"),
            Column::Sum("total_loyalty_points"),
        ],
    },
    Mart {
        name: "mart_average_check",
        definition: include_str!("../../marts/mart_average_check.sql"),
        fact: ORDERS,
        dimension: USERS,
        columns: &[
            Column::Fact("status"),
            Column::Dimension("loyalty_status"),
            Column::Average("average_check"),
        ],
    },
];
