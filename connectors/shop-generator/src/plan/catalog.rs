//! What is on the shelves: twenty categories and the products in them.

use fake::faker::lorem::en::Sentence;
use fake::Fake;
use rand::seq::IndexedRandom;
use rand::{Rng, RngExt};

use super::{days, instant, stream, Config, YEARS_BACK};
use crate::money::Cents;
use crate::shop::{Category, Product};

/// A category of the lower level and what it sells.
type LowerCategory = (&'static str, [&'static str; 4]);

/// The upper level, each category with the lower ones under it.
const SHELVES: [(&str, [LowerCategory; 3]); 5] = [
    (
        "Electronics",
        [
            ("Phones", ["Phone", "Phone Case", "Charger", "Screen Guard"]),
            (
                "Computers",
                ["Laptop", "Keyboard", "Monitor", "Docking Station"],
            ),
            (
                "Audio",
                ["Headphones", "Loudspeaker", "Microphone", "Turntable"],
            ),
        ],
    ),
    (
        "Home",
        [
            (
                "Kitchen",
                ["Kettle", "Frying Pan", "Coffee Mill", "Knife Set"],
            ),
            (
                "Furniture",
                ["Desk", "Bookshelf", "Armchair", "Bedside Table"],
            ),
            (
                "Lighting",
                ["Desk Lamp", "Ceiling Lamp", "Lantern", "Light Strip"],
            ),
        ],
    ),
    (
        "Clothing",
        [
            ("Women", ["Dress", "Blouse", "Winter Coat", "Scarf"]),
            ("Men", ["Shirt", "Jacket", "Trousers", "Belt"]),
            ("Shoes", ["Running Shoes", "Boots", "Sandals", "Slippers"]),
        ],
    ),
    (
        "Sports",
        [
            (
                "Cycling",
                ["Helmet", "Bicycle Lock", "Saddle", "Bicycle Pump"],
            ),
            (
                "Camping",
                ["Tent", "Sleeping Bag", "Camping Stove", "Backpack"],
            ),
            (
                "Fitness",
                ["Dumbbell", "Yoga Mat", "Skipping Rope", "Rowing Machine"],
            ),
        ],
    ),
    (
        "Books and Games",
        [
            (
                "Fiction",
                ["Novel", "Crime Story", "Collected Poems", "Short Stories"],
            ),
            (
                "Science",
                ["Atlas", "Field Guide", "Textbook", "Star Chart"],
            ),
            (
                "Board Games",
                ["Strategy Game", "Card Game", "Puzzle", "Chess Set"],
            ),
        ],
    ),
];

const QUALITIES: [&str; 16] = [
    "Classic", "Compact", "Deluxe", "Durable", "Elegant", "Everyday", "Foldable", "Grand",
    "Handmade", "Light", "Modern", "Nordic", "Portable", "Quiet", "Refined", "Sturdy",
];

/// Twenty categories: the five upper ones first, so that parents precede children.
pub(super) fn categories() -> Vec<Category> {
    let upper = SHELVES.iter().map(|(name, _)| (*name, None));
    let lower = (1..)
        .zip(&SHELVES)
        .flat_map(|(parent, (_, below))| below.iter().map(move |(name, _)| (*name, Some(parent))));
    (1..)
        .zip(upper.chain(lower))
        .map(|(category_id, (name, parent_category_id))| Category {
            category_id,
            name: name.to_owned(),
            parent_category_id,
        })
        .collect()
}

/// Products spread evenly over the lower level, so that no category is empty.
pub(super) fn products(config: &Config, categories: &[Category]) -> Vec<Product> {
    let rng = &mut stream(config.seed, "products");
    let goods: Vec<_> = categories
        .iter()
        .filter(|category| category.parent_category_id.is_some())
        .map(|category| category.category_id)
        .zip(
            SHELVES
                .iter()
                .flat_map(|(_, below)| below.iter().map(|(_, goods)| goods.as_slice())),
        )
        .collect();
    (1..)
        .zip(goods.iter().cycle())
        .take(config.counts.products)
        .map(|(product_id, (category_id, goods))| {
            product(rng, config, product_id, *category_id, goods)
        })
        .collect()
}

fn product(
    rng: &mut impl Rng,
    config: &Config,
    product_id: i64,
    category_id: i64,
    goods: &[&str],
) -> Product {
    let quality = QUALITIES.choose(rng).copied().unwrap_or_default();
    let thing = goods.choose(rng).copied().unwrap_or_default();
    let opening = config.as_of - days(365 * YEARS_BACK);
    Product {
        product_id,
        name: format!("{quality} {thing} {}", 100 + product_id),
        description: Sentence(6..14).fake_with_rng(rng),
        category_id,
        price: price(rng),
        stock_quantity: rng.random_range(50..500),
        creation_date: instant(rng, opening, opening + days(365)),
    }
}

/// Between 2.00 and about 1000, cheap things being more common than dear ones.
fn price(rng: &mut impl Rng) -> Cents {
    let ceiling = *[2_000, 8_000, 25_000, 100_000]
        .choose(rng)
        .unwrap_or(&2_000);
    Cents(rng.random_range(200..ceiling))
}
