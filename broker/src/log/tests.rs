//! Torn writes are cut off; anything else that is not what was written stops the log and changes nothing.

use std::collections::BTreeMap;

use bytes::BytesMut;

use super::*;
use crate::batch;

const PAYLOAD_BYTES: usize = 40;
const BATCH_BYTES: usize = batch::HEADER_BYTES + PAYLOAD_BYTES;
/// Offsets of each batch.
const OFFSETS: i64 = 2;
const BATCHES_PER_SEGMENT: usize = 3;
const BATCHES: usize = 3 * BATCHES_PER_SEGMENT;
const END: i64 = BATCHES as i64 * OFFSETS;
/// Of a batch, in front of what its checksum covers; nothing reads it.
const LEADER_EPOCH: std::ops::Range<usize> = 12..16;
const MARK: &str = "acknowledged";
const TORN: &str = "torn-tail";

type Files = BTreeMap<String, Vec<u8>>;

fn open(dir: &Path) -> PartitionLog {
    let options = Options {
        segment_bytes: (BATCHES_PER_SEGMENT * BATCH_BYTES) as u64,
        sync: Sync::Never,
        files: crate::files::Files::new(2),
        deduplicator: None,
    };
    PartitionLog::open(dir, options, TaskTracker::new()).expect("opened")
}

fn batch(number: usize) -> Bytes {
    let mut bytes = BytesMut::new();
    let payload = [number as u8; PAYLOAD_BYTES];
    batch::encode(&mut bytes, 0, OFFSETS as i32 - 1, (1, 1), &payload);
    bytes.freeze()
}

async fn append(log: &PartitionLog, number: usize) -> Result<i64, AppendError> {
    log.append(batch(number)).await.expect("answered")
}

/// A log of three segments of three batches; with or without what a clean shutdown leaves.
async fn filled(dir: &Path, clean: bool) -> Files {
    let log = open(dir);
    for number in 0..BATCHES {
        let base = append(&log, number).await.expect("appended");
        assert_eq!(base, number as i64 * OFFSETS);
    }
    if clean {
        log.close().expect("closed");
    }
    contents(dir)
}

fn contents(dir: &Path) -> Files {
    let entries = fs::read_dir(dir).expect("directory");
    let content = |entry: io::Result<fs::DirEntry>| {
        let path = entry.expect("entry").path();
        let name = path
            .file_name()
            .expect("name")
            .to_string_lossy()
            .into_owned();
        (name, fs::read(path).expect("file"))
    };
    entries.map(content).collect()
}

fn restore(dir: &Path, files: &Files) {
    for name in contents(dir).keys() {
        fs::remove_file(dir.join(name)).expect("removed");
    }
    for (name, bytes) in files {
        fs::write(dir.join(name), bytes).expect("written");
    }
}

fn segment(number: usize) -> String {
    segment::file_name((number * BATCHES_PER_SEGMENT) as i64 * OFFSETS)
}

/// Numbers of the batches that can be read from the beginning, and what ended that.
fn read(log: &PartitionLog) -> (Vec<usize>, Option<ReadError>) {
    let (mut numbers, mut offset) = (Vec::new(), log.bounds().start);
    loop {
        let slice = match log.read(offset, 2 * BATCH_BYTES) {
            Ok(Some(slice)) => slice,
            Ok(None) => return (numbers, None),
            Err(error) => return (numbers, Some(error)),
        };
        for (at, header) in batch::walk(&slice.batches) {
            assert_eq!(header.base_offset, offset);
            offset = header.next_offset();
            numbers.push(usize::from(slice.batches[at + batch::HEADER_BYTES]));
        }
        assert_eq!(slice.next_offset, offset);
    }
}

/// That the batches before `good` can be read, nothing else can, and nothing is appended.
async fn assert_damaged(log: &PartitionLog, good: usize, case: &str) {
    let (numbers, error) = read(log);
    assert_eq!(numbers, (0..good).collect::<Vec<_>>(), "{case}");
    let Some(ReadError::Damaged(damage)) = error else {
        panic!("{case}: {error:?}");
    };
    assert_eq!(damage.offset, good as i64 * OFFSETS, "{case}: {damage}");
    assert!(
        damage.to_string().contains("broker-log-damaged"),
        "{damage}"
    );
    let bounds = log.bounds();
    assert_eq!(bounds.end, END, "{case}: it must not look shorter");
    assert_eq!(bounds.damaged, Some(damage.offset), "{case}");
    for offset in damage.offset..=END {
        let read = log.read(offset, 1);
        assert!(
            matches!(read, Err(ReadError::Damaged(_))),
            "{case}: {read:?}"
        );
    }
    let appended = append(log, BATCHES).await;
    assert!(
        matches!(appended, Err(AppendError::Damaged(_))),
        "{case}: {appended:?}"
    );
}

/// All but the indexes, which opening a log may write.
fn without_indexes(mut files: Files) -> Files {
    files.retain(|name, _| !name.ends_with(".index"));
    files
}

/// Flips a bit of every byte of every segment, one after the other, and has each looked at.
async fn each_flip(dir: &Path, whole: &Files) {
    for (number, name) in (0..BATCHES / BATCHES_PER_SEGMENT).map(|number| (number, segment(number)))
    {
        for at in 0..BATCHES_PER_SEGMENT * BATCH_BYTES {
            let mut damaged = whole.clone();
            let bytes = damaged.get_mut(&name).expect("segment");
            bytes[at] ^= 1 << (at % 8);
            restore(dir, &damaged);
            let log = open(dir);
            let good = number * BATCHES_PER_SEGMENT + at / BATCH_BYTES;
            let case = format!("{name}, byte {at}");
            if LEADER_EPOCH.contains(&(at % BATCH_BYTES)) {
                assert_eq!(read(&log).0.len(), BATCHES, "{case}");
                continue;
            }
            assert_damaged(&log, good, &case).await;
            let nothing = Retention {
                age_max: Default::default(),
                bytes_max: 0,
            };
            log.retain(nothing, None).expect("retained");
            log.close().expect("closed");
            assert_eq!(
                without_indexes(contents(dir)),
                without_indexes(damaged),
                "{case}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_bit_anywhere_is_found_when_it_is_read() {
    let dir = tempfile::tempdir().expect("directory");
    let whole = filled(dir.path(), true).await;
    assert_eq!(
        whole.keys().filter(|name| name.ends_with(".index")).count(),
        3
    );
    each_flip(dir.path(), &whole).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_bit_anywhere_is_found_after_a_crash() {
    let dir = tempfile::tempdir().expect("directory");
    let whole = without_indexes(filled(dir.path(), false).await);
    each_flip(dir.path(), &whole).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_anywhere_while_segments_are_removed_leaves_a_log_that_only_starts_later() {
    let dir = tempfile::tempdir().expect("directory");
    let whole = filled(dir.path(), true).await;
    let log = open(dir.path());
    let segments = log.log().segments();
    let doomed: Vec<PathBuf> = retention::doomed(&segments[..2]).collect();
    log.close().expect("closed");
    assert_eq!(doomed.len(), 4);
    for removed in 0..=doomed.len() {
        restore(dir.path(), &whole);
        for path in &doomed[..removed] {
            fs::remove_file(path).expect("removed");
        }
        let log = open(dir.path());
        let gone = removed / 2 * BATCHES_PER_SEGMENT;
        assert_eq!(log.bounds().start, gone as i64 * OFFSETS, "{removed}");
        let (numbers, error) = read(&log);
        assert_eq!(numbers, (gone..BATCHES).collect::<Vec<_>>(), "{removed}");
        assert!(error.is_none(), "{removed}: {error:?}");
        let logs = contents(dir.path()).into_keys();
        let left: Vec<String> = logs.filter(|name| name.ends_with(".index")).collect();
        let log_of = |index: &String| dir.path().join(index).with_extension("log");
        assert!(left.iter().all(|index| log_of(index).exists()), "{left:?}");
        log.close().expect("closed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_torn_anywhere_is_cut_off_and_written_over() {
    let dir = tempfile::tempdir().expect("directory");
    let mut whole = filled(dir.path(), false).await;
    // Room for one more batch in the last segment.
    let last = segment(2);
    let acknowledged = (BATCHES_PER_SEGMENT - 1) * BATCH_BYTES;
    let torn = whole
        .get_mut(&last)
        .expect("segment")
        .split_off(acknowledged);
    restore(dir.path(), &whole);
    fs::remove_file(dir.path().join(MARK)).expect("mark");
    let log = open(dir.path());
    drop(log);
    let before = contents(dir.path());
    for len in 0..=torn.len() {
        let mut files = before.clone();
        files
            .get_mut(&last)
            .expect("segment")
            .extend_from_slice(&torn[..len]);
        restore(dir.path(), &files);
        let log = open(dir.path());
        let (numbers, error) = read(&log);
        assert!(error.is_none(), "{len}: {error:?}");
        if len == torn.len() {
            assert_eq!(numbers.len(), BATCHES, "a whole batch counts");
            continue;
        }
        assert_eq!(numbers.len(), BATCHES - 1, "{len}");
        assert_eq!(contents(dir.path())[&last].len(), acknowledged, "{len}");
        if len > 0 {
            assert_eq!(contents(dir.path())[TORN], torn[..len], "a copy is kept");
        }
        append(&log, BATCHES - 1).await.expect("appended");
        assert_eq!(read(&log).0.len(), BATCHES);
    }
}

/// Pages of a write that was not acknowledged may reach the disk in any order.
#[tokio::test(flavor = "multi_thread")]
async fn whole_batches_behind_a_torn_one_were_not_acknowledged_either() {
    let dir = tempfile::tempdir().expect("directory");
    let log = open(dir.path());
    append(&log, 0).await.expect("appended");
    drop(log);
    let path = dir.path().join(segment(0));
    let mut bytes = fs::read(&path).expect("segment");
    bytes.extend_from_slice(&[0; BATCH_BYTES]);
    let mut behind = batch(2).to_vec();
    batch::set_base_offset(&mut behind, 2 * OFFSETS);
    bytes.extend_from_slice(&behind);
    fs::write(&path, bytes).expect("written");
    let log = open(dir.path());
    let (numbers, error) = read(&log);
    assert_eq!((numbers, error.is_none()), (vec![0], true));
    append(&log, 1).await.expect("appended");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_lost_acknowledged_bytes_is_damaged() {
    let dir = tempfile::tempdir().expect("directory");
    let whole = without_indexes(filled(dir.path(), false).await);
    let last = segment(2);
    for len in 1..whole[&last].len() {
        let mut files = whole.clone();
        files.get_mut(&last).expect("segment").truncate(len);
        restore(dir.path(), &files);
        let good = 2 * BATCHES_PER_SEGMENT + len / BATCH_BYTES;
        assert_damaged(&open(dir.path()), good, &format!("{len} bytes left")).await;
        assert_eq!(contents(dir.path())[&last].len(), len, "never shortened");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_segment_that_is_missing_or_doubled_is_damage() {
    let dir = tempfile::tempdir().expect("directory");
    let whole = filled(dir.path(), true).await;
    let mut missing = whole.clone();
    missing.remove(&segment(1));
    restore(dir.path(), &missing);
    assert_damaged(&open(dir.path()), BATCHES_PER_SEGMENT, "missing").await;
    restore(dir.path(), &whole);
    let doubled = segment::file_name(OFFSETS);
    fs::write(dir.path().join(doubled), &whole[&segment(0)][BATCH_BYTES..]).expect("written");
    assert_damaged(&open(dir.path()), 1, "doubled").await;
}

/// A log that an older version wrote: what lies behind a damaged batch tells.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_mark_a_batch_behind_the_damage_tells_it_from_a_torn_write() {
    let dir = tempfile::tempdir().expect("directory");
    let mut whole = without_indexes(filled(dir.path(), false).await);
    whole.remove(MARK);
    let last = segment(2);
    for at in 0..BATCHES_PER_SEGMENT * BATCH_BYTES {
        if LEADER_EPOCH.contains(&(at % BATCH_BYTES)) {
            continue;
        }
        let mut files = whole.clone();
        files.get_mut(&last).expect("segment")[at] ^= 0x40;
        restore(dir.path(), &files);
        let log = open(dir.path());
        let good = 2 * BATCHES_PER_SEGMENT + at / BATCH_BYTES;
        if at / BATCH_BYTES < BATCHES_PER_SEGMENT - 1 {
            assert_damaged(&log, good, &format!("byte {at}")).await;
        } else {
            assert_eq!(read(&log).0.len(), good, "byte {at}");
            assert_eq!(contents(dir.path())[TORN].len(), BATCH_BYTES, "byte {at}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_index_is_made_anew() {
    let dir = tempfile::tempdir().expect("directory");
    let whole = filled(dir.path(), true).await;
    for name in whole.keys().filter(|name| name.ends_with(".index")) {
        for at in 0..whole[name].len() {
            let mut files = whole.clone();
            files.get_mut(name).expect("index")[at] ^= 1 << (at % 8);
            restore(dir.path(), &files);
            let (numbers, error) = read(&open(dir.path()));
            assert_eq!(numbers.len(), BATCHES, "{name}, byte {at}: {error:?}");
        }
    }
}

/// A torn write behind one acknowledged batch.
async fn torn(dir: &Path) -> PathBuf {
    let log = open(dir);
    append(&log, 0).await.expect("appended");
    drop(log);
    let path = dir.join(segment(0));
    let mut bytes = fs::read(&path).expect("segment");
    bytes.extend_from_slice(&[0; 10]);
    fs::write(&path, bytes).expect("written");
    path
}

#[tokio::test(flavor = "multi_thread")]
async fn a_torn_write_is_cut_off_even_if_no_copy_can_be_made() {
    let dir = tempfile::tempdir().expect("directory");
    let path = torn(dir.path()).await;
    // Nothing can be put at the copy's name.
    fs::create_dir(dir.path().join(TORN)).expect("directory");
    let log = open(dir.path());
    assert_eq!(
        fs::metadata(&path).expect("segment").len(),
        BATCH_BYTES as u64
    );
    assert!(
        !dir.path().join("torn-tail.tmp").exists(),
        "it takes no room"
    );
    append(&log, 1).await.expect("appended");
    assert_eq!(read(&log).0, [0, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_whose_mark_cannot_be_written_is_read_and_appended_to_once_it_can() {
    let dir = tempfile::tempdir().expect("directory");
    torn(dir.path()).await;
    let mark = dir.path().join(MARK);
    fs::remove_file(&mark).expect("mark");
    std::os::unix::fs::symlink(dir.path().join("nowhere/mark"), &mark).expect("link");
    let log = open(dir.path());
    assert_eq!(read(&log).0, [0]);
    let refused = append(&log, 1).await;
    assert!(
        matches!(refused, Err(AppendError::Storage(_))),
        "{refused:?}"
    );
    fs::remove_file(&mark).expect("link");
    append(&log, 1).await.expect("appended");
    assert_eq!(read(&log).0, [0, 1]);
    drop(log);
    assert_eq!(read(&open(dir.path())).0, [0, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stored_log_that_cannot_be_opened_is_there_and_says_so() {
    let dir = tempfile::tempdir().expect("directory");
    let whole = filled(dir.path(), false).await;
    let mark = dir.path().join(MARK);
    fs::remove_file(&mark).expect("mark");
    fs::create_dir(&mark).expect("directory");
    let options = Options {
        segment_bytes: 1 << 20,
        sync: Sync::Never,
        files: crate::files::Files::new(2),
        deduplicator: None,
    };
    let log = PartitionLog::open_stored(dir.path(), options, TaskTracker::new());
    let begins = 2 * BATCHES_PER_SEGMENT as i64 * OFFSETS;
    assert_eq!((log.bounds().start, log.bounds().end), (0, begins));
    // Nobody may take it for a shorter one.
    for offset in [0, begins, END, END + 1] {
        let read = log.read(offset, 1);
        assert!(matches!(read, Err(ReadError::Damaged(_))), "{read:?}");
    }
    let refused = append(&log, 1).await.expect_err("refused").to_string();
    assert!(refused.contains("could not be opened"), "{refused}");
    log.close().expect("closed");
    drop(log);
    fs::remove_dir(&mark).expect("directory");
    assert_eq!(
        without_indexes(contents(dir.path())).len(),
        without_indexes(whole).len() - 1
    );
    assert_eq!(read(&open(dir.path())).0.len(), BATCHES);
}
