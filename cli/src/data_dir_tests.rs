use std::os::unix::fs::symlink;

use super::*;
use crate::servers::ScratchDir;

fn write(dir: &Path, name: &str) {
    let path = dir.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, "content").unwrap();
}

/// As `up` leaves it.
fn filled(dir: &Path) {
    for name in [
        "postgres/data/PG_VERSION",
        "postgres/server.log",
        "mysql/flavour",
        "broker/topics/a.1/0",
        "dashboard/history.json",
        "ports.json",
        "control-token",
    ] {
        write(dir, name);
    }
}

#[test]
fn a_new_and_an_empty_folder_get_the_marker_once() {
    let scratch = ScratchDir::new("data-dir").unwrap();
    for path in [scratch.path().to_owned(), scratch.path().join("new/below")] {
        drop(DataDir::claim(&path).unwrap());
        let marker = fs::read_to_string(path.join(MARKER)).unwrap();
        assert!(
            marker.starts_with("millrace data directory, layout 1\n"),
            "{marker}"
        );
        DataDir::claim(&path).unwrap();
        fs::remove_file(path.join(MARKER)).unwrap();
        fs::remove_file(path.join(LOCK)).unwrap();
    }
}

#[test]
fn a_folder_whose_claim_was_cut_off_is_claimed_again() {
    let scratch = ScratchDir::new("data-dir").unwrap();
    // As a kill or a full disk leaves it.
    fs::write(scratch.path().join(PARTIAL.name), "").unwrap();
    drop(DataDir::claim(scratch.path()).unwrap());
    assert!(is_marked(scratch.path()).unwrap());
    assert!(!scratch.path().join(PARTIAL.name).exists());
}

#[test]
fn a_folder_of_somebody_else_is_refused_and_stays_as_it_is() {
    for name in [
        "thesis.tex",
        "postgres",
        "postgres/dump.sql",
        "mysql/my.cnf",
        "broker/notes",
    ] {
        let scratch = ScratchDir::new("data-dir").unwrap();
        write(scratch.path(), "ports.json");
        fs::write(scratch.path().join(LOCK), "").unwrap();
        write(scratch.path(), name);
        let refused = DataDir::claim(scratch.path()).unwrap_err().to_string();
        let first = name.split('/').next().unwrap();
        assert!(
            refused.contains(first) && refused.contains("--data-dir"),
            "{refused}"
        );
        assert_eq!(entries(scratch.path()).unwrap().len(), 3, "{name}");
    }
}

#[test]
fn a_directory_of_an_earlier_version_is_known_by_its_layout() {
    let scratch = ScratchDir::new("data-dir").unwrap();
    filled(scratch.path());
    let refused = DataDir::claim(scratch.path()).unwrap_err().to_string();
    assert!(refused.contains("broker, control-token"), "{refused}");
    fs::write(scratch.path().join(LOCK), "").unwrap();
    drop(DataDir::claim(scratch.path()).unwrap());
    assert!(is_marked(scratch.path()).unwrap());
}

#[test]
fn a_newer_layout_and_a_running_millrace_are_refused() {
    let scratch = ScratchDir::new("data-dir").unwrap();
    let held = DataDir::claim(scratch.path()).unwrap();
    let refused = DataDir::claim(scratch.path()).unwrap_err().to_string();
    assert!(refused.contains("another millrace runs on"), "{refused}");
    drop(held);
    fs::write(scratch.path().join(MARKER), format!("{FIRST_LINE}2\n")).unwrap();
    let refused = DataDir::claim(scratch.path()).unwrap_err().to_string();
    assert!(refused.contains("newer millrace"), "{refused}");
}

#[tokio::test]
async fn nothing_is_removed_without_the_marker() {
    for name in ["postgres/dump.sql", "mysql", "photos/1.jpg"] {
        let scratch = ScratchDir::new("data-dir").unwrap();
        write(scratch.path(), "ports.json");
        write(scratch.path(), name);
        let refused = clean(scratch.path()).await.unwrap_err().to_string();
        assert!(refused.contains("nothing was removed"), "{refused}");
        assert!(scratch.path().join(name).exists());
        assert_eq!(entries(scratch.path()).unwrap().len(), 2);
    }
}

#[tokio::test]
async fn only_what_millrace_made_is_removed_and_links_are_not_followed() {
    let scratch = ScratchDir::new("data-dir").unwrap();
    let (dir, elsewhere) = (
        scratch.path().join("data"),
        scratch.path().join("elsewhere"),
    );
    drop(DataDir::claim(&dir).unwrap());
    filled(&dir);
    write(&elsewhere, "topics/precious");
    fs::remove_dir_all(dir.join("broker")).unwrap();
    symlink(&elsewhere, dir.join("broker")).unwrap();
    write(&dir, "notes.txt");

    let kept = ["broker", "notes.txt"].map(str::to_owned).to_vec();
    assert_eq!(clean(&dir).await.unwrap(), Cleaned::Kept(kept.clone()));
    assert_eq!(entries(&dir).unwrap(), kept);
    assert!(elsewhere.join("topics/precious").exists());
}

#[tokio::test]
async fn a_directory_is_removed_whole_but_not_through_a_link_or_while_it_is_used() {
    let scratch = ScratchDir::new("data-dir").unwrap();
    let (dir, link) = (scratch.path().join("data"), scratch.path().join("link"));
    let held = DataDir::claim(&dir).unwrap();
    filled(&dir);
    symlink(&dir, &link).unwrap();
    assert!(clean(&link)
        .await
        .unwrap_err()
        .to_string()
        .contains("is a link"));
    assert!(clean(&dir)
        .await
        .unwrap_err()
        .to_string()
        .contains("another millrace runs"));
    drop(held);
    assert_eq!(clean(&dir).await.unwrap(), Cleaned::Removed);
    assert!(!dir.exists());
    assert_eq!(clean(&dir).await.unwrap(), Cleaned::Absent);
}
