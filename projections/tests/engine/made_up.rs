//! Rows that the source makes up.

use millrace_events::Value;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::RngExt;

use super::{text, Source};

impl Source {
    pub(crate) fn random_row(&mut self, table: &str) -> Vec<Value> {
        let mut row = self.random_fitting_row(table);
        if self.unfit && self.rng.random_range(0..2) == 0 {
            let unfit: &[(usize, &str)] = match table {
                "things" => &[
                    (2, "NaN"),
                    (2, "99999999999.99"),
                    (4, "infinity"),
                    (4, "0044-03-15 12:00:00+00 BC"),
                    (4, "20000-01-01 00:00:00+00"),
                ],
                _ => &[
                    (3, "NaN"),
                    (3, "-Infinity"),
                    (4, "0.0000000000000000000000000000001"),
                    (4, "123456789012345678901234567890123456"),
                    (5, "0044-03-15 BC"),
                    (5, "-infinity"),
                ],
            };
            for _ in 0..self.rng.random_range(1..3) {
                let (column, value) = *unfit.choose(&mut self.rng).expect("values");
                row[column] = text(value);
            }
        }
        row
    }

    fn random_fitting_row(&mut self, table: &str) -> Vec<Value> {
        let rng = &mut self.rng;
        let words = [
            "",
            "a",
            "a ",
            "A",
            "ä",
            "it's",
            "back\\slash",
            "line\nbreak",
            "NULL",
            "'); --",
        ];
        let null_or = |rng: &mut StdRng, value: Value| match rng.random_range(0..5) {
            0 => Value::Null,
            _ => value,
        };
        let word = |rng: &mut StdRng| text(*words.choose(rng).expect("words"));
        if table == "things" {
            let cents = rng.random_range(-99_999..99_999i64);
            let sign = if cents < 0 { "-" } else { "" };
            let price = format!("{sign}{}.{:02}", cents.abs() / 100, cents.abs() % 100);
            let second = rng.random_range(0..60);
            let values = [
                word(rng),
                text(price),
                word(rng),
                text(format!("2024-02-29 23:59:{second:02}.5+00")),
                Value::Bool(rng.random()),
            ];
            let mut row = vec![Value::Int(rng.random_range(0..25))];
            row.extend(values.map(|value| null_or(&mut self.rng, value)));
            row
        } else {
            let values = [
                text(format!("\\x{:04x}", rng.random::<u16>())),
                text(format!("{}", rng.random_range(-1e9..1e9f64))),
                text(format!("{}.5000", rng.random_range(-1000..1000))),
                text(format!("19{:02}-12-31", rng.random_range(0..100))),
            ];
            let mut row = vec![word(rng), Value::Int(rng.random_range(-2..3))];
            row.extend(values.map(|value| null_or(&mut self.rng, value)));
            row
        }
    }
}
