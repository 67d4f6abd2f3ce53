//! Ctrl-C before there is anything to show.

use std::time::Duration;

use crate::binary::Demo;

/// The first start fills a new data directory, which takes longer than the interrupt needs. `--once`
/// owes an answer, and has none.
#[test]
fn an_interrupted_once_ends_soon_and_fails() -> anyhow::Result<()> {
    let mut demo = Demo::new("interrupt")?;
    demo.start_once()?;
    demo.wait_for_lock()?;
    let (took, well) = demo.interrupt()?;
    anyhow::ensure!(
        !well && took < Duration::from_secs(10),
        "well: {well}, Ctrl-C took {took:?}\n{}",
        demo.log()
    );
    anyhow::ensure!(demo.log().contains("interrupted"), "{}", demo.log());
    Ok(())
}

/// A plain `up` ends with Ctrl-C, whatever it had reached, and the next start goes on from there.
#[test]
fn an_interrupted_start_ends_soon_and_the_next_one_works() -> anyhow::Result<()> {
    let mut demo = Demo::new("interrupt")?;
    demo.start()?;
    demo.wait_for_lock()?;
    let (took, well) = demo.interrupt()?;
    anyhow::ensure!(
        well && took < Duration::from_secs(10),
        "well: {well}, Ctrl-C took {took:?}\n{}",
        demo.log()
    );
    demo.start()?;
    demo.wait_for()?;
    demo.verify()
}
