//! A log whose head retention has removed, or another one in its place.

use crate::filled;
use crate::source::CHANGES;

/// Its head is gone, and with it the baseline, the first copies and what the projector of then has read.
#[tokio::test(flavor = "multi_thread")]
async fn a_projector_begins_at_the_newest_checkpoint_of_a_log_without_its_head() {
    let mut world = filled().await;
    for _ in 0..40 {
        world.source.random_transaction();
    }
    let kept = world.source.log.values(CHANGES).len() as u64;
    world.source.copy_under_traffic("things");
    world.source.copy_under_traffic("pairs");
    world.source.checkpoint();
    for _ in 0..20 {
        world.source.random_transaction();
    }
    world.source.log.evict(CHANGES, kept);
    let running = world.start();
    world.caught_up(&running).await;
    let read = running.handle.status().offset.expect("a position").0;
    running.stop().await;
    // It was written down: the next one goes on.
    world.source.checkpoint();
    world.source.log.evict(CHANGES, read);
    world.source.random_transaction();
    let running = world.start();
    world.caught_up(&running).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_log_is_known_by_its_newest_checkpoint() {
    let mut world = filled().await;
    let running = world.start();
    world.caught_up(&running).await;
    running.stop().await;
    let before = world.source.log.values(CHANGES).len() as u64;
    world.source.incarnation = "second".into();
    world.source.checkpoint_of_another_log();
    world.source.log.evict(CHANGES, before - 1);
    assert_eq!(world.start().error().await.code(), "MR-P006");
}
