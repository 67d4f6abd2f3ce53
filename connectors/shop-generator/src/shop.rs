//! What the shop knows: the rows of its seven tables and the life of an order.

use chrono::NaiveDateTime;

use crate::money::Cents;

/// The seven tables, parents before children.
pub const TABLES: [&str; 7] = [
    "users",
    "productcategories",
    "products",
    "orders",
    "orderdetails",
    "reviews",
    "loyaltypoints",
];

/// A customer's standing; column `users.loyalty_status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LoyaltyStatus {
    /// The few best customers.
    Gold,
    /// Regular customers.
    Silver,
    /// Everybody else.
    Bronze,
}

impl LoyaltyStatus {
    /// Every status, best first.
    pub const ALL: [LoyaltyStatus; 3] = [Self::Gold, Self::Silver, Self::Bronze];

    /// The text stored in the column.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gold => "Gold",
            Self::Silver => "Silver",
            Self::Bronze => "Bronze",
        }
    }
}

/// Where an order stands; column `orders.status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OrderStatus {
    /// Placed, not yet picked up.
    Pending,
    /// Being packed.
    Processing,
    /// On its way.
    Shipped,
    /// Handed over: from here on there is a delivery date.
    Delivered,
    /// Delivered, and the time for returns has passed.
    Completed,
    /// Delivered and sent back.
    Returned,
    /// Called off before it was shipped.
    Canceled,
    /// Payment refused.
    Failed,
}

impl OrderStatus {
    /// Every status.
    pub const ALL: [OrderStatus; 8] = [
        Self::Pending,
        Self::Processing,
        Self::Shipped,
        Self::Delivered,
        Self::Completed,
        Self::Returned,
        Self::Canceled,
        Self::Failed,
    ];

    /// The text stored in the column.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Processing => "Processing",
            Self::Shipped => "Shipped",
            Self::Delivered => "Delivered",
            Self::Completed => "Completed",
            Self::Returned => "Returned",
            Self::Canceled => "Canceled",
            Self::Failed => "Failed",
        }
    }

    /// The status stored as `text`, if it is one.
    pub fn parse(text: &str) -> Option<OrderStatus> {
        Self::ALL.into_iter().find(|status| status.as_str() == text)
    }

    /// Whether an order in this status has a delivery date.
    pub fn has_delivery_date(self) -> bool {
        matches!(self, Self::Delivered | Self::Completed | Self::Returned)
    }

    /// Whether the goods go back to the shelf when an order enters this status.
    pub fn restocks(self) -> bool {
        matches!(self, Self::Canceled | Self::Failed | Self::Returned)
    }
}

/// Why points were given; column `loyaltypoints.reason`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// For an order placed.
    Order,
    /// A promotion.
    Promotion,
    /// Taking part in an event.
    EventParticipation,
}

impl Reason {
    /// The text stored in the column.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Order => "Order",
            Self::Promotion => "Promotion",
            Self::EventParticipation => "Event Participation",
        }
    }
}

/// A row of `users`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Primary key.
    pub user_id: i64,
    /// Given name.
    pub first_name: String,
    /// Family name.
    pub last_name: String,
    /// Unique.
    pub email: String,
    /// International form, spaces between groups.
    pub phone: String,
    /// UTC; before everything else the user does.
    pub registration_date: NaiveDateTime,
    /// Standing.
    pub loyalty_status: LoyaltyStatus,
}

/// A row of `productcategories`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Category {
    /// Primary key.
    pub category_id: i64,
    /// Unique by construction.
    pub name: String,
    /// None on the upper of the two levels.
    pub parent_category_id: Option<i64>,
}

/// A row of `products`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Product {
    /// Primary key.
    pub product_id: i64,
    /// Name on the shelf.
    pub name: String,
    /// Some sentences.
    pub description: String,
    /// Always a category of the lower level.
    pub category_id: i64,
    /// Current price.
    pub price: Cents,
    /// Pieces on the shelf.
    pub stock_quantity: i32,
    /// UTC.
    pub creation_date: NaiveDateTime,
}

/// A row of `orders`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// Primary key.
    pub order_id: i64,
    /// Who ordered.
    pub user_id: i64,
    /// UTC, after the user's registration.
    pub order_date: NaiveDateTime,
    /// Sum of `total_price` over the order's details.
    pub total_amount: Cents,
    /// Where it stands.
    pub status: OrderStatus,
    /// After `order_date`; None until delivered.
    pub delivery_date: Option<NaiveDateTime>,
}

/// A row of `orderdetails`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderDetail {
    /// Primary key.
    pub order_detail_id: i64,
    /// Order this line belongs to.
    pub order_id: i64,
    /// What was ordered; at most once per order.
    pub product_id: i64,
    /// Pieces, at least one.
    pub quantity: i32,
    /// Price at the time of the order.
    pub price_per_unit: Cents,
    /// `quantity * price_per_unit`.
    pub total_price: Cents,
}

/// A row of `reviews`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Review {
    /// Primary key.
    pub review_id: i64,
    /// Who wrote it.
    pub user_id: i64,
    /// What it is about.
    pub product_id: i64,
    /// 1 to 5.
    pub rating: i32,
    /// A few sentences.
    pub review_text: String,
    /// UTC, after the user's registration.
    pub created_at: NaiveDateTime,
}

/// A row of `loyaltypoints`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoyaltyPoints {
    /// Primary key.
    pub loyalty_id: i64,
    /// Whose points.
    pub user_id: i64,
    /// How many, at least one.
    pub points: i32,
    /// Why.
    pub reason: Reason,
    /// UTC, after the user's registration.
    pub created_at: NaiveDateTime,
}

/// The whole shop at one moment, every table sorted by its key, keys numbered from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shop {
    /// Table `users`.
    pub users: Vec<User>,
    /// Table `productcategories`.
    pub categories: Vec<Category>,
    /// Table `products`.
    pub products: Vec<Product>,
    /// Table `orders`.
    pub orders: Vec<Order>,
    /// Table `orderdetails`.
    pub details: Vec<OrderDetail>,
    /// Table `reviews`.
    pub reviews: Vec<Review>,
    /// Table `loyaltypoints`.
    pub loyalty_points: Vec<LoyaltyPoints>,
}

/// Points given for an order of this amount: one per full ten, at least one.
pub fn points_for(total_amount: Cents) -> i32 {
    i32::try_from(total_amount.0 / 1000)
        .unwrap_or(i32::MAX)
        .max(1)
}
