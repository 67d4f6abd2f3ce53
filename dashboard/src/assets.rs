//! The page, embedded.
//!
//! A file of `dashboard/assets/` becomes part of the program by one line of [`ASSETS`]; no build step.

use std::sync::LazyLock;

use sha2::{Digest, Sha256};

/// A file of the page.
pub(crate) struct Asset {
    /// Path below `/assets/`; the page itself is `index.html`.
    pub(crate) path: &'static str,
    pub(crate) content_type: &'static str,
    pub(crate) bytes: &'static [u8],
    /// Strong entity tag, quotes included.
    pub(crate) etag: String,
}

/// Embeds the files named, each under its own name.
macro_rules! embed {
    ($($path:literal),* $(,)?) => {
        &[$(($path, include_bytes!(concat!("../assets/", $path)) as &[u8])),*]
    };
}

/// Every file that is served.
static FILES: &[(&str, &[u8])] = embed![
    "README.md",
    "actions.js",
    "api.js",
    "app.js",
    "bars.js",
    "chart.js",
    "dom.js",
    "down.js",
    "facts.js",
    "format.js",
    "headline.js",
    "history.js",
    "icon.svg",
    "indent.js",
    "index.html",
    "inview.js",
    "latency.js",
    "layout.css",
    "live.js",
    "martchart.js",
    "martgrid.js",
    "marts.js",
    "narrow.css",
    "parts.css",
    "peek.js",
    "pipeline.js",
    "projections.js",
    "rejected.js",
    "session.js",
    "source.js",
    "spark.js",
    "tables.js",
    "text.js",
    "theme.css",
    "theme.js",
    "topics.js",
    "trend.js",
    "vendor/README.md",
    "vendor/uPlot.LICENSE",
    "vendor/uPlot.iife.min.js",
    "vendor/uPlot.min.css",
    "verdict.js",
    "verify.js",
    "zoom.js",
];

static ASSETS: LazyLock<Vec<Asset>> = LazyLock::new(|| {
    let asset = |&(path, bytes): &(&'static str, &'static [u8])| Asset {
        path,
        content_type: content_type(path),
        bytes,
        etag: etag(bytes),
    };
    FILES.iter().map(asset).collect()
});

/// The file of a path, if there is one.
pub(crate) fn find(path: &str) -> Option<&'static Asset> {
    ASSETS.iter().find(|asset| asset.path == path)
}

fn etag(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    let hex: String = digest[..16].iter().map(|b| format!("{b:02x}")).collect();
    format!("\"{hex}\"")
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit_once('.').map(|(_, end)| end) {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js" | "mjs") => "text/javascript; charset=utf-8",
        Some("json" | "map") => "application/json",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("ico") => "image/x-icon",
        Some("woff2") => "font/woff2",
        _ => "text/plain; charset=utf-8",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file that was forgotten in the list would be missing only in a browser.
    #[test]
    fn every_file_of_the_folder_is_embedded() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("assets");
        let mut folders = vec![folder.clone()];
        let mut missing = Vec::new();
        while let Some(next) = folders.pop() {
            for entry in std::fs::read_dir(next).unwrap().flatten() {
                let path = entry.path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let name = path.strip_prefix(&folder).unwrap().to_str().unwrap();
                let served = !name.ends_with(".md") && !name.ends_with(".txt");
                if served && find(name).is_none() {
                    missing.push(name.to_owned());
                }
            }
        }
        assert!(missing.is_empty(), "not in FILES: {missing:?}");
    }
}
