//! Random transactions.

use std::collections::{BTreeMap, BTreeSet};

use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, RngExt, SeedableRng};

use super::shop::{Turn, TABLES};

/// Random transactions over small domains, so that groups are shared, emptied and met again.
pub(crate) struct Random {
    rng: StdRng,
    present: BTreeMap<&'static str, BTreeSet<i64>>,
}

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random {
            rng: StdRng::seed_from_u64(seed),
            present: BTreeMap::new(),
        }
    }

    pub(crate) fn transaction(&mut self) -> Vec<Turn> {
        let mut tables: Vec<&'static str> = TABLES.iter().map(|(table, ..)| *table).collect();
        tables.shuffle(&mut self.rng);
        let count = self.rng.random_range(1..=tables.len());
        tables.truncate(count);
        tables.into_iter().map(|table| self.turn(table)).collect()
    }

    fn turn(&mut self, table: &'static str) -> Turn {
        let mut turn = Turn {
            table,
            truncate: self.rng.random_bool(0.03),
            rows: BTreeMap::new(),
        };
        let keys = if table == "users" || table == "products" {
            6
        } else {
            30
        };
        if turn.truncate {
            self.present.remove(table);
        }
        for _ in 0..self.rng.random_range(0..8) {
            let key = self.rng.random_range(1..=keys);
            let row = self.rng.random_bool(0.75).then(|| self.row(table));
            turn.rows.insert(key, row);
            if self.rng.random_bool(0.2) {
                self.move_key(&mut turn, keys);
            }
        }
        let present = self.present.entry(table).or_default();
        for (key, row) in &turn.rows {
            if row.is_some() {
                present.insert(*key);
            } else {
                present.remove(key);
            }
        }
        turn
    }

    /// A key change: the old key's row is gone, the new key has a row.
    fn move_key(&mut self, turn: &mut Turn, keys: i64) {
        let present: Vec<i64> = self
            .present
            .entry(turn.table)
            .or_default()
            .iter()
            .copied()
            .collect();
        if let Some(old) = present.choose(&mut self.rng) {
            let new = self.rng.random_range(1..=keys);
            let row = self.row(turn.table);
            turn.rows.insert(*old, None);
            turn.rows.insert(new, Some(row));
        }
    }

    fn row(&mut self, table: &str) -> Vec<String> {
        match table {
            "users" => vec![self.name(), self.name(), self.status()],
            "products" => vec![self.name()],
            "orders" => vec![self.reference(), self.status(), self.amount(), self.date()],
            "reviews" => vec![self.reference(), self.rating()],
            _ => vec![self.reference(), self.points()],
        }
    }

    fn pick(&mut self, from: &[&str]) -> String {
        from.choose(&mut self.rng).expect("not empty").to_string()
    }

    fn name(&mut self) -> String {
        self.pick(&[
            "'a'", "'A'", "'a '", "''", "'N'", "'V1:a'", "'é'", "'e'", "'😀'", "NULL",
        ])
    }
    fn status(&mut self) -> String {
        self.pick(&["'Gold'", "'gold'", "'Gold '", "'Bronze'", "''", "NULL"])
    }
    fn reference(&mut self) -> String {
        self.pick(&["1", "2", "3", "4", "5", "6", "7", "NULL"])
    }
    fn rating(&mut self) -> String {
        self.pick(&["1", "2", "3", "4", "5", "-1", "NULL"])
    }
    fn points(&mut self) -> String {
        self.pick(&["0", "7", "-7", "2147483647", "-2147483648", "NULL"])
    }
    fn date(&mut self) -> String {
        self.pick(&["'2024-02-29 12:00:00.123456'", "NULL"])
    }
    fn amount(&mut self) -> String {
        match self.rng.random_range(0..6) {
            0 => "NULL".to_owned(),
            1 => self.pick(&["0", "0.01", "-0.01", "9999999999.99", "-9999999999.99"]),
            _ => format!(
                "{}.{:02}",
                self.rng.random_range(-50..2000),
                self.rng.random_range(0..100)
            ),
        }
    }
}

pub(crate) fn seed() -> u64 {
    let seed = std::env::var("SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| rand::rng().next_u64());
    println!("SEED={seed}");
    seed
}
