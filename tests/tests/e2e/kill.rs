//! `kill -9` of the whole process at random instants under load.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::binary::Demo;

const KILLS: u32 = 20;

/// Kills fall anywhere: into the start, the snapshot, the catching up, the steady stream. After each,
/// the next start adopts what was left behind, and everything is equal.
#[test]
fn twenty_kills_lose_nothing_and_double_nothing() -> anyhow::Result<()> {
    let seed = millrace_tests::seed();
    let mut rng = StdRng::seed_from_u64(seed);
    let mut demo = Demo::new("kill")?;
    for kill in 1..=KILLS {
        demo.start()?;
        // Half of the kills hit a pipeline that was live, half whatever the start had reached.
        if rng.random_bool(0.5) {
            demo.wait_for()?;
        }
        // The instant is what is random here; there is no event to wait for.
        std::thread::sleep(Duration::from_millis(rng.random_range(0..2500)));
        demo.kill()?;
        demo.start()?;
        demo.wait_for()?;
        demo.verify()
            .map_err(|error| error.context(format!("after kill {kill}, seed {seed}")))?;
        demo.kill()?;
    }
    demo.start()?;
    demo.wait_for()?;
    demo.verify()?;
    let (took, well) = demo.interrupt()?;
    anyhow::ensure!(
        well && took < Duration::from_secs(10),
        "Ctrl-C took {took:?}\n{}",
        demo.log()
    );
    Ok(())
}
