//! Writing the planned history into empty tables, all of it or nothing.

use std::fmt::{self, Write};

use sqlx::{Connection, PgConnection, PgPool};
use tokio::sync::watch;

use crate::plan::{self, plan};
use crate::schema::{create_in, Error, SchemaName, Table, TABLES};
use crate::shop::{Category, LoyaltyPoints, Order, OrderDetail, Product, Review, Shop, User};

/// How far a fill has come. `done` of `total` rows, all tables together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// The table being written; empty before the first.
    pub phase: &'static str,
    /// Rows sent.
    pub done: u64,
    /// Rows to send.
    pub total: u64,
}

/// Whether [`fill`] had anything to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filled {
    /// That many rows were written.
    Now {
        /// All tables together.
        rows: u64,
    },
    /// An earlier fill was completed; whatever has happened to its rows since then is left alone.
    Before,
}

/// Rows sent to Postgres at a time, and between two reports of progress.
const CHUNK_ROWS: usize = 500;

/// Begins the comment on table `users` that says a fill was completed.
const MARK: &str = "The demonstration shop, filled by millrace";

/// Creates the shop and fills it in **one** transaction: nobody ever sees the tables without rows,
/// and after a kill at any instant the next call starts over or finds everything done.
pub async fn prepare(
    pool: &PgPool,
    schema: &SchemaName,
    config: &plan::Config,
    progress: &watch::Sender<Progress>,
) -> Result<Filled, Error> {
    let shop = plan(config)?;
    let mut connection = pool.acquire().await?;
    let mut transaction = connection.begin().await?;
    create_in(&mut transaction, schema).await?;
    let filled = fill_in(&mut transaction, schema, config, &shop, progress).await?;
    transaction.commit().await?;
    Ok(filled)
}

/// Fills the tables that [`create_schema`](crate::create_schema) made, in one transaction. Refuses
/// tables that already have rows, unless an earlier fill wrote them.
pub async fn fill(
    pool: &PgPool,
    schema: &SchemaName,
    config: &plan::Config,
    progress: &watch::Sender<Progress>,
) -> Result<Filled, Error> {
    prepare(pool, schema, config, progress).await
}

async fn fill_in(
    connection: &mut PgConnection,
    schema: &SchemaName,
    config: &plan::Config,
    shop: &Shop,
    progress: &watch::Sender<Progress>,
) -> Result<Filled, Error> {
    if is_marked(connection).await? {
        return Ok(Filled::Before);
    }
    lock_tables(connection).await?;
    expect_empty(connection, schema).await?;
    let total = rows(shop);
    progress.send_replace(Progress {
        phase: "",
        done: 0,
        total,
    });
    copy_shop(connection, shop, progress).await?;
    for table in &TABLES {
        advance_sequence(connection, table).await?;
    }
    mark(connection, config).await?;
    sqlx::raw_sql(&format!("ANALYZE {}", names()))
        .execute(connection)
        .await?;
    Ok(Filled::Now { rows: total })
}

fn rows(shop: &Shop) -> u64 {
    let people = shop.users.len() + shop.reviews.len() + shop.loyalty_points.len();
    let goods = shop.categories.len() + shop.products.len();
    (people + goods + shop.orders.len() + shop.details.len()) as u64
}

fn names() -> String {
    TABLES.map(|table| table.name).join(", ")
}

async fn is_marked(connection: &mut PgConnection) -> Result<bool, Error> {
    let marked = sqlx::query_scalar(
        "SELECT coalesce(starts_with(obj_description('users'::regclass, 'pg_class'), $1), false)",
    );
    Ok(marked.bind(MARK).fetch_one(connection).await?)
}

/// The mark is a comment on a table of our own: no table more, and it commits with the rows.
async fn mark(connection: &mut PgConnection, config: &plan::Config) -> Result<(), Error> {
    let plan::Config { seed, as_of, .. } = config;
    let comment = format!("COMMENT ON TABLE users IS '{MARK} (seed {seed}, as of {as_of})'");
    sqlx::raw_sql(&comment).execute(connection).await?;
    Ok(())
}

async fn lock_tables(connection: &mut PgConnection) -> Result<(), Error> {
    let lock = format!("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE", names());
    sqlx::raw_sql(&lock).execute(connection).await?;
    Ok(())
}

async fn expect_empty(connection: &mut PgConnection, schema: &SchemaName) -> Result<(), Error> {
    for table in &TABLES {
        let any: bool = sqlx::query_scalar(&format!("SELECT EXISTS (SELECT FROM {})", table.name))
            .fetch_one(&mut *connection)
            .await?;
        if any {
            return Err(Error::NotEmpty {
                schema: schema.clone(),
                table: table.name,
            });
        }
    }
    Ok(())
}

async fn copy_shop(
    connection: &mut PgConnection,
    shop: &Shop,
    progress: &watch::Sender<Progress>,
) -> Result<(), Error> {
    let [users, categories, products, orders, details, reviews, points] = &TABLES;
    copy(connection, users, &shop.users, progress).await?;
    copy(connection, categories, &shop.categories, progress).await?;
    copy(connection, products, &shop.products, progress).await?;
    copy(connection, orders, &shop.orders, progress).await?;
    copy(connection, details, &shop.details, progress).await?;
    copy(connection, reviews, &shop.reviews, progress).await?;
    copy(connection, points, &shop.loyalty_points, progress).await
}

async fn copy<R: CopyRow>(
    connection: &mut PgConnection,
    table: &Table,
    rows: &[R],
    progress: &watch::Sender<Progress>,
) -> Result<(), Error> {
    progress.send_modify(|progress| progress.phase = table.name);
    let statement = format!("COPY {} ({}) FROM STDIN", table.name, table.column_list());
    let mut copy = connection.copy_in_raw(&statement).await?;
    for chunk in rows.chunks(CHUNK_ROWS) {
        copy.send(lines(chunk).into_bytes()).await?;
        progress.send_modify(|progress| progress.done += chunk.len() as u64);
    }
    copy.finish().await?;
    Ok(())
}

/// Keys that Postgres gives out from now on follow those of the history.
async fn advance_sequence(connection: &mut PgConnection, table: &Table) -> Result<(), Error> {
    let (name, key) = (table.name, table.key());
    let statement = format!(
        "SELECT setval(pg_get_serial_sequence('{name}', '{key}'), max({key})) FROM {name} HAVING max({key}) > 0"
    );
    sqlx::query(&statement).execute(connection).await?;
    Ok(())
}

/// A row as a line of COPY's text format.
trait CopyRow {
    /// The fields in the order of [`TABLES`].
    fn fields(&self, line: &mut Line);
}

fn lines<R: CopyRow>(rows: &[R]) -> String {
    let mut line = Line::default();
    for row in rows {
        row.fields(&mut line);
        line.end();
    }
    line.text
}

/// Lines under construction (PostgreSQL manual, COPY, "Text Format").
#[derive(Default)]
struct Line {
    text: String,
    inside: bool,
}

impl Line {
    /// A field that contains none of the characters that COPY treats specially.
    fn plain(&mut self, value: impl fmt::Display) -> &mut Self {
        self.separate();
        // Writing to a String cannot fail.
        let _ = write!(self.text, "{value}");
        self
    }

    fn text(&mut self, value: &str) -> &mut Self {
        self.separate();
        for character in value.chars() {
            match character {
                '\\' => self.text.push_str("\\\\"),
                '\t' => self.text.push_str("\\t"),
                '\n' => self.text.push_str("\\n"),
                '\r' => self.text.push_str("\\r"),
                other => self.text.push(other),
            }
        }
        self
    }

    fn optional(&mut self, value: Option<impl fmt::Display>) -> &mut Self {
        match value {
            Some(value) => self.plain(value),
            None => self.plain("\\N"),
        }
    }

    fn separate(&mut self) {
        if self.inside {
            self.text.push('\t');
        }
        self.inside = true;
    }

    fn end(&mut self) {
        self.text.push('\n');
        self.inside = false;
    }
}

impl CopyRow for User {
    fn fields(&self, line: &mut Line) {
        line.plain(self.user_id)
            .text(&self.first_name)
            .text(&self.last_name)
            .text(&self.email);
        line.text(&self.phone)
            .plain(self.registration_date)
            .plain(self.loyalty_status.as_str());
    }
}

impl CopyRow for Category {
    fn fields(&self, line: &mut Line) {
        line.plain(self.category_id)
            .text(&self.name)
            .optional(self.parent_category_id);
    }
}

impl CopyRow for Product {
    fn fields(&self, line: &mut Line) {
        line.plain(self.product_id)
            .text(&self.name)
            .text(&self.description);
        line.plain(self.category_id)
            .plain(self.price)
            .plain(self.stock_quantity);
        line.plain(self.creation_date);
    }
}

impl CopyRow for Order {
    fn fields(&self, line: &mut Line) {
        line.plain(self.order_id)
            .plain(self.user_id)
            .plain(self.order_date);
        line.plain(self.total_amount)
            .plain(self.status.as_str())
            .optional(self.delivery_date);
    }
}

impl CopyRow for OrderDetail {
    fn fields(&self, line: &mut Line) {
        line.plain(self.order_detail_id)
            .plain(self.order_id)
            .plain(self.product_id);
        line.plain(self.quantity)
            .plain(self.price_per_unit)
            .plain(self.total_price);
    }
}

impl CopyRow for Review {
    fn fields(&self, line: &mut Line) {
        line.plain(self.review_id)
            .plain(self.user_id)
            .plain(self.product_id)
            .plain(self.rating);
        line.text(&self.review_text).plain(self.created_at);
    }
}

impl CopyRow for LoyaltyPoints {
    fn fields(&self, line: &mut Line) {
        line.plain(self.loyalty_id)
            .plain(self.user_id)
            .plain(self.points);
        line.plain(self.reason.as_str()).plain(self.created_at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_characters_survive_the_text_format() {
        let category = |name: &str, parent_category_id| Category {
            category_id: 7,
            name: name.to_owned(),
            parent_category_id,
        };
        let rows = [category("a\tb\nc\\N\r", None), category("", Some(1))];
        assert_eq!(lines(&rows), "7\ta\\tb\\nc\\\\N\\r\t\\N\n7\t\t1\n");
    }
}
