//! A log that nobody reads.

use std::io::Read;
use std::time::Duration;

use anyhow::ensure;

use crate::binary::Demo;

/// As with a terminal after Ctrl-S: the pipe is full within a second. Control APIs, trade and projector go on, Ctrl-C
/// works, and who reads at last is told what is missing.
#[test]
fn a_log_that_nobody_reads_stops_nobody() -> anyhow::Result<()> {
    let mut demo = Demo::new("stalled")?;
    demo.start_unread()?;
    for _ in 0..2 {
        // Through the projector's control API, with a commit of its own in Postgres.
        demo.wait_for()?;
        demo.verify()?;
    }
    let mut pipe = demo.read()?;
    let reader = std::thread::spawn(move || {
        let mut text = Vec::new();
        pipe.read_to_end(&mut text).map(|_| text)
    });
    let (took, well) = demo.interrupt()?;
    ensure!(
        well && took < Duration::from_secs(10),
        "well: {well}, Ctrl-C took {took:?}"
    );
    let text = reader
        .join()
        .map_err(|_| anyhow::anyhow!("the reader broke down"))??;
    let text = String::from_utf8_lossy(&text);
    ensure!(
        text.contains("messages were dropped here"),
        "nothing is said of {} bytes",
        text.len()
    );
    Ok(())
}

/// Nobody reads even at the end: what was to be said is given up.
#[test]
fn a_log_that_nobody_ever_reads_does_not_keep_the_process() -> anyhow::Result<()> {
    let mut demo = Demo::new("stalled")?;
    demo.start_unread()?;
    demo.wait_for()?;
    let (took, well) = demo.interrupt()?;
    ensure!(
        well && took < Duration::from_secs(10),
        "well: {well}, Ctrl-C took {took:?}"
    );
    Ok(())
}
