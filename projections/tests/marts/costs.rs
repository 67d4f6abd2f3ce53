//! What a change costs: in rows, in page requests, in time.

use super::shop::{write, Shop};
use super::support::Server;

/// Fills a shop in which user 1 has `orders` orders and others have many.
async fn shop_with_orders(orders: i64) -> Shop {
    let mut shop = Shop::new().await;
    let user: &[&str] = &["'Ann'", "'Lee'", "'Gold'"];
    shop.transaction(&[write("users", &[(1, user), (2, user), (3, user)])])
        .await;
    for user in [2, 3] {
        insert_orders(&mut shop, 100_000 * user, 2_000, user).await;
    }
    insert_orders(&mut shop, 0, orders, 1).await;
    for table in shop.marts.tables() {
        shop.run(&format!("DELETE FROM `{table}`")).await;
    }
    shop.marts
        .build(&mut shop.conn, "", &[])
        .await
        .expect("built");
    shop
}

async fn insert_orders(shop: &mut Shop, first: i64, count: i64, user: i64) {
    let rows: Vec<String> = (1..=count)
        .map(|n| format!("({}, {user}, 'Status {}', {n}.25, NULL)", first + n, n % 4))
        .collect();
    shop.run(&format!("INSERT INTO orders VALUES {}", rows.join(", ")))
        .await;
}

#[tokio::test]
async fn the_cost_of_a_loyalty_change_does_not_depend_on_the_number_of_orders() {
    let mut costs = Vec::new();
    for orders in [4, 400, 8_000] {
        let mut shop = shop_with_orders(orders).await;
        let before = (shop.rows_read().await, shop.counters("Handler_write").await);
        shop.transaction(&[write("users", &[(1, &["'Ann'", "'Lee'", "'Silver'"])])])
            .await;
        let after = (shop.rows_read().await, shop.counters("Handler_write").await);
        costs.push((after.0 - before.0, after.1 - before.1));
        shop.assert_exact(&format!("{orders} orders")).await;
    }
    println!("rows read and written by one change of loyalty status: {costs:?}");
    assert_eq!(costs[0], costs[1]);
    assert_eq!(costs[0], costs[2]);
}

#[tokio::test]
async fn the_cost_of_an_order_does_not_depend_on_the_number_of_orders() {
    let mut costs = Vec::new();
    for orders in [4, 400, 8_000] {
        let mut shop = shop_with_orders(orders).await;
        let before = (shop.rows_read().await, shop.counters("Handler_write").await);
        shop.transaction(&[write(
            "orders",
            &[(1, &["1", "'Status 2'", "7.77", "NULL"])],
        )])
        .await;
        let after = (shop.rows_read().await, shop.counters("Handler_write").await);
        costs.push((after.0 - before.0, after.1 - before.1));
        shop.assert_exact(&format!("{orders} orders")).await;
    }
    println!("rows read and written by one change of an order: {costs:?}");
    // With one order per status, the status that loses its only order vanishes.
    assert_eq!(costs[1], costs[2]);
    assert!(costs[0].0 <= costs[1].0 + 10);
}

/// One statement for all rows, as the projector writes: only the marts' part is of interest.
#[tokio::test]
async fn the_cost_of_a_large_batch_depends_on_the_batch_only() {
    let mut reads = Vec::new();
    for orders in [4_000, 40_000] {
        let mut shop = shop_with_orders(orders).await;
        shop.run("START TRANSACTION").await;
        shop.touch("orders", 1..=1_000).await;
        let before = shop.rows_read().await;
        let started = std::time::Instant::now();
        shop.retract("orders").await;
        shop.run("UPDATE orders JOIN millrace_keys_orders USING (order_id) SET total_amount = total_amount + 1, status = 'Moved'")
            .await;
        shop.add("orders").await;
        println!("1000 of {orders} orders moved in {:?}", started.elapsed());
        reads.push(shop.rows_read().await - before);
        shop.run("COMMIT").await;
        shop.assert_exact(&format!("{orders} orders")).await;
    }
    println!("rows read: {reads:?}");
    assert_eq!(reads[0], reads[1]);
}

#[tokio::test]
async fn a_connection_serves_many_batches_at_the_same_cost() {
    let mut shop = shop_with_orders(100).await;
    let mut spent = Vec::new();
    for round in 0..5 {
        let started = std::time::Instant::now();
        for n in 0..200 {
            let amount = format!("{round}.{:02}", n % 100);
            shop.transaction(&[write(
                "orders",
                &[(n % 100 + 1, &["1", "'Status 2'", &amount, "NULL"])],
            )])
            .await;
        }
        spent.push(started.elapsed());
    }
    println!("200 transactions of one order each took {spent:?}");
    assert!(spent[4] < spent[0] * 3, "{spent:?}");
    shop.assert_exact("many batches").await;
    let _ = shop.conn.close().await;
}

const ORDERS: i64 = 20_000;

impl Shop {
    /// Raises the amounts of the first orders, in one transaction.
    async fn raise(&mut self, orders: i64) {
        self.run("START TRANSACTION").await;
        self.touch("orders", 1..=orders).await;
        self.retract("orders").await;
        self.run(&format!(
            "UPDATE orders SET total_amount = total_amount + 1 WHERE order_id <= {orders}"
        ))
        .await;
        self.add("orders").await;
        self.run("COMMIT").await;
    }

    /// Pages that the server has asked its buffer pool for.
    async fn page_requests(&mut self) -> i64 {
        self.counters_of("GLOBAL", "Innodb_buffer_pool_read_requests")
            .await
    }

    /// What a change of one order costs, in page requests. The least of many rounds: the server tidies up after large
    /// transactions, and what it reads for that is counted as well.
    async fn cost_of_one(&mut self) -> i64 {
        const CHANGES: i64 = 10;
        let mut least = i64::MAX;
        for _ in 0..30 {
            let before = self.page_requests().await;
            for _ in 0..CHANGES {
                self.raise(1).await;
            }
            let cost = (self.page_requests().await - before) / CHANGES;
            least = least.min(cost);
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        least
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_costs_as_much_after_a_large_catch_up_as_before() {
    // Page requests are counted for a whole server.
    let server = Server::start_with(&[]).await;
    let mut shop = Shop::on(&server).await;
    for user in 1..=50 {
        shop.run(&format!(
            "INSERT INTO users VALUES ({user}, 'a', 'b', 'Gold')"
        ))
        .await;
    }
    let orders: Vec<String> = (1..=ORDERS)
        .map(|order| format!("({order}, {}, 'new', 10.00, NULL)", order % 50 + 1))
        .collect();
    shop.run(&format!("INSERT INTO orders VALUES {}", orders.join(",")))
        .await;
    shop.marts
        .build(&mut shop.conn, "", &[])
        .await
        .expect("built");
    shop.raise(1).await;
    let before = shop.cost_of_one().await;
    for _ in 0..5 {
        shop.raise(ORDERS).await;
    }
    let after = shop.cost_of_one().await;
    println!(
        "page requests of one change: {before} before, {after} after {} rows",
        5 * ORDERS
    );
    assert!(2 * after < 3 * before, "{before} before, {after} after");
    shop.assert_exact("after a catch-up").await;
}
