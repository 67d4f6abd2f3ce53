//! The planned history keeps its promises for any seed and size.

use std::collections::{HashMap, HashSet};

use millrace_shop_generator::plan::{plan, Config, Counts, Details, Invalid};
use millrace_shop_generator::shop::{LoyaltyStatus, OrderStatus, Shop};
use millrace_shop_generator::Cents;
use proptest::prelude::*;

fn counts() -> impl Strategy<Value = Counts> {
    let rows = (
        1..60usize,
        2..50usize,
        1..60usize,
        0..120usize,
        0..60usize,
        0..60usize,
    );
    (rows, 1..6usize, 0..12usize).prop_map(|(rows, min, more)| {
        let (users, categories, products, orders, reviews, loyalty_points) = rows;
        let max = min + more;
        Counts {
            users,
            categories,
            products,
            orders,
            details: Details { min, max },
            reviews,
            loyalty_points,
        }
    })
}

fn config(seed: u64, counts: Counts) -> Config {
    Config {
        seed,
        counts,
        ..Config::default()
    }
}

proptest! {
    #[test]
    fn every_promise_holds(seed: u64, counts in counts()) {
        let config = config(seed, counts);
        let shop = plan(&config).unwrap();
        check_counts(&shop, &config.counts);
        check_hierarchy(&shop);
        check_money(&shop);
        check_dates(&shop, &config);
    }

    #[test]
    fn equal_seeds_give_equal_shops_and_others_do_not(seed: u64, counts in counts()) {
        let shop = plan(&config(seed, counts)).unwrap();
        prop_assert_eq!(&shop, &plan(&config(seed, counts)).unwrap());
        prop_assert_ne!(&shop, &plan(&config(seed.wrapping_add(1), counts)).unwrap());
    }
}

#[test]
fn the_shop_of_the_defaults_is_as_large_as_promised() {
    let config = Config::default();
    let shop = plan(&config).unwrap();
    check_counts(
        &shop,
        &Counts {
            users: 500,
            categories: 20,
            products: 800,
            orders: 3000,
            details: Details { min: 1, max: 10 },
            reviews: 2000,
            loyalty_points: 3000,
        },
    );
    check_money(&shop);
    check_dates(&shop, &config);
    for status in OrderStatus::ALL {
        assert!(
            shop.orders.iter().any(|order| order.status == status),
            "no order is {status:?}"
        );
    }
    for status in LoyaltyStatus::ALL {
        assert!(
            shop.users.iter().any(|user| user.loyalty_status == status),
            "nobody is {status:?}"
        );
    }
    let sizes: HashSet<usize> = details_of(&shop).values().copied().collect();
    assert_eq!(
        sizes,
        (1..=10).collect(),
        "orders have 1 to 10 details, and all of these"
    );
    let reasons: HashSet<_> = shop
        .loyalty_points
        .iter()
        .map(|row| row.reason.as_str())
        .collect();
    assert_eq!(
        reasons,
        HashSet::from(["Order", "Promotion", "Event Participation"])
    );
}

#[test]
fn more_reviews_do_not_change_the_orders() {
    let few = plan(&Config::default()).unwrap();
    let counts = Counts {
        reviews: 2500,
        ..Counts::default()
    };
    let many = plan(&Config {
        counts,
        ..Config::default()
    })
    .unwrap();
    assert_eq!((few.orders, few.details), (many.orders, many.details));
}

#[test]
fn what_cannot_be_planned_is_refused() {
    let refused = |counts| plan(&config(1, counts)).unwrap_err();
    assert_eq!(
        refused(Counts {
            users: 0,
            ..Counts::default()
        }),
        Invalid::NoUsers
    );
    assert_eq!(
        refused(Counts {
            products: 0,
            ..Counts::default()
        }),
        Invalid::NoProducts
    );
    assert_eq!(
        refused(Counts {
            categories: 1,
            ..Counts::default()
        }),
        Invalid::Categories(1)
    );
    for (min, max) in [(0, 3), (4, 3)] {
        let details = Details { min, max };
        assert_eq!(
            refused(Counts {
                details,
                ..Counts::default()
            }),
            Invalid::Details(min, max)
        );
    }
}

fn details_of(shop: &Shop) -> HashMap<i64, usize> {
    let mut sizes = HashMap::new();
    for detail in &shop.details {
        *sizes.entry(detail.order_id).or_insert(0) += 1;
    }
    sizes
}

fn check_counts(shop: &Shop, counts: &Counts) {
    let planned = Counts {
        users: shop.users.len(),
        categories: shop.categories.len(),
        details: counts.details,
        products: shop.products.len(),
        orders: shop.orders.len(),
        reviews: shop.reviews.len(),
        loyalty_points: shop.loyalty_points.len(),
    };
    assert_eq!(planned, *counts);
    let sizes = details_of(shop);
    assert_eq!(sizes.len(), shop.orders.len(), "an order without details");
    let Details { min, max } = counts.details;
    let expected = min.min(counts.products)..=max;
    assert!(sizes.values().all(|size| expected.contains(size)));
    let emails: HashSet<_> = shop.users.iter().map(|user| &user.email).collect();
    assert_eq!(emails.len(), shop.users.len(), "an email twice");
}

fn check_hierarchy(shop: &Shop) {
    let parent_of: HashMap<_, _> = shop
        .categories
        .iter()
        .map(|category| (category.category_id, category.parent_category_id))
        .collect();
    let parents: HashSet<_> = parent_of.values().flatten().collect();
    let upper = parent_of.values().filter(|parent| parent.is_none()).count();
    assert_eq!(parents.len(), upper, "nothing below an upper category");
    assert!(
        parents.iter().all(|parent| parent_of[parent].is_none()),
        "more than two levels"
    );
    let names: HashSet<_> = shop
        .categories
        .iter()
        .map(|category| &category.name)
        .collect();
    assert_eq!(names.len(), shop.categories.len(), "a name twice");
    assert!(shop
        .products
        .iter()
        .all(|product| parent_of[&product.category_id].is_some()));
}

fn check_money(shop: &Shop) {
    let mut totals = HashMap::<i64, Cents>::new();
    for detail in &shop.details {
        assert!((1..=5).contains(&detail.quantity));
        assert_eq!(
            detail.total_price.0,
            detail.price_per_unit.0 * i64::from(detail.quantity)
        );
        let total = totals.entry(detail.order_id).or_default();
        *total = *total + detail.total_price;
    }
    for order in &shop.orders {
        assert_eq!(order.total_amount, totals[&order.order_id]);
    }
}

fn check_dates(shop: &Shop, config: &Config) {
    let registered: HashMap<_, _> = shop
        .users
        .iter()
        .map(|user| (user.user_id, user.registration_date))
        .collect();
    for order in &shop.orders {
        assert!(order.order_date > registered[&order.user_id]);
        assert_eq!(
            order.delivery_date.is_some(),
            order.status.has_delivery_date()
        );
        let delivered = order.delivery_date.unwrap_or(config.as_of);
        assert!(order.order_date < delivered && delivered <= config.as_of);
    }
    let reviews = shop.reviews.iter().map(|row| (row.user_id, row.created_at));
    let points = shop
        .loyalty_points
        .iter()
        .map(|row| (row.user_id, row.created_at));
    for (user_id, created_at) in reviews.chain(points) {
        assert!(created_at > registered[&user_id] && created_at < config.as_of);
    }
}
