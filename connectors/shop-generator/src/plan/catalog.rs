//! What is on the shelves: categories and the products in them.

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

/// Two levels, one category in four above, and the upper ones first, so that parents precede
/// children. Names return with a number where there are more than [`SHELVES`] has.
pub(super) fn categories(amount: usize) -> Vec<Category> {
    let levels = Levels::of(amount);
    let upper =
        (0..levels.upper).map(|parent| (numbered(SHELVES[parent % SHELVES.len()].0, parent), None));
    let lower = (0..levels.lower).map(|at| {
        let (parent, below) = levels.place(at);
        let (name, _) = SHELVES[parent % SHELVES.len()].1[below];
        (numbered(name, parent), Some(parent as i64 + 1))
    });
    (1..)
        .zip(upper.chain(lower))
        .map(|(category_id, (name, parent_category_id))| Category {
            category_id,
            name,
            parent_category_id,
        })
        .collect()
}

fn numbered(name: &str, parent: usize) -> String {
    match parent / SHELVES.len() {
        0 => name.to_owned(),
        round => format!("{name} {}", round + 1),
    }
}

/// How many categories stand on each level.
struct Levels {
    upper: usize,
    lower: usize,
}

impl Levels {
    fn of(amount: usize) -> Self {
        let upper = amount.div_ceil(4);
        Self {
            upper,
            lower: amount - upper,
        }
    }

    /// The parent of a lower category and its place below that: there are at most three.
    fn place(&self, at: usize) -> (usize, usize) {
        let parent = at * self.upper / self.lower;
        let first = (parent * self.lower).div_ceil(self.upper);
        (parent, at - first)
    }
}

/// Products spread evenly over the lower level, so that no category is empty.
pub(super) fn products(config: &Config) -> Vec<Product> {
    let rng = &mut stream(config.seed, "products");
    let levels = Levels::of(config.counts.categories);
    (0..config.counts.products)
        .map(|product| {
            let at = product % levels.lower;
            let (parent, below) = levels.place(at);
            let (_, goods) = SHELVES[parent % SHELVES.len()].1[below];
            let category_id = (levels.upper + at + 1) as i64;
            self::product(rng, config, product as i64 + 1, category_id, &goods)
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
