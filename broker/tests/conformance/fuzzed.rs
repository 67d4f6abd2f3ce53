//! Inputs of the fuzz targets (`broker/fuzz`): seeds, and whatever a fuzzer found. Replayed here, so
//! that what was mended stays mended.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

use millrace_broker::fuzz;

#[test]
fn what_fuzzers_found_does_no_harm() {
    let panics = count_panics();
    for (target, run) in [
        ("frame", fuzz::frame as fn(&[u8])),
        ("batch", fuzz::batch),
        ("request", fuzz::request),
    ] {
        let inputs = inputs(target);
        assert!(!inputs.is_empty(), "no inputs of {target}");
        for input in inputs {
            println!("{}", input.display());
            run(&fs::read(&input).expect("readable"));
            assert_eq!(panics.load(Ordering::Relaxed), 0, "{}", input.display());
        }
    }
}

fn inputs(target: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/inputs")
        .join(target);
    let files = fs::read_dir(folder).expect("a folder of inputs");
    files.map(|file| file.expect("a file").path()).collect()
}

/// Counts also the panics that end only a task; those of other tests do not matter here.
fn count_panics() -> Arc<AtomicUsize> {
    let count = Arc::new(AtomicUsize::new(0));
    let (counted, here) = (count.clone(), std::thread::current().id());
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let thread = std::thread::current();
        if thread.id() == here || thread.name() == Some(fuzz::THREAD) {
            counted.fetch_add(1, Ordering::Relaxed);
        }
        usual(panic);
    }));
    count
}
