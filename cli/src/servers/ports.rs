//! Ports on loopback: free or taken, and chosen once per data folder.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;

use super::error::{io, Error};

/// Below the range from which systems take ports for outgoing connections.
const FREE_FROM: u16 = 20_000;
const FREE_TO: u16 = 29_999;
const FILE: &str = "ports.json";

/// Checks that nobody listens on `port` on 127.0.0.1.
///
/// # Errors
/// [`Error::PortTaken`], naming the environment `variable` that sets the port.
pub fn check_free(port: u16, variable: &'static str) -> Result<(), Error> {
    match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
        Ok(_) => Ok(()),
        Err(_) => Err(Error::PortTaken { port, variable }),
    }
}

/// The free ports of a data folder: chosen at the first call, kept in `ports.json` there, the same ever after.
/// A name that the file lacks gets a port and is added.
///
/// # Errors
/// [`Error::NoFreePort`], or [`Error::Io`] when the file cannot be read or written.
pub fn free_ports(data_dir: &Path, names: &[&str]) -> Result<BTreeMap<String, u16>, Error> {
    let file = data_dir.join(FILE);
    let mut ports = read(&file)?;
    let mut held = Vec::new();
    for name in names {
        if !ports.contains_key(*name) {
            let listener = pick(&ports)?;
            let port = listener
                .local_addr()
                .map_err(io("read the port of", &file))?
                .port();
            ports.insert((*name).to_owned(), port);
            held.push(listener);
        }
    }
    if !held.is_empty() {
        fs::create_dir_all(data_dir).map_err(io("create", data_dir))?;
        write(&file, &ports)?;
    }
    Ok(ports)
}

fn read(file: &Path) -> Result<BTreeMap<String, u16>, Error> {
    match fs::read(file) {
        Ok(bytes) => {
            serde_json::from_slice(&bytes).map_err(|error| io("understand", file)(error.into()))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(BTreeMap::new()),
        Err(error) => Err(io("read", file)(error)),
    }
}

fn write(file: &Path, ports: &BTreeMap<String, u16>) -> Result<(), Error> {
    let bytes =
        serde_json::to_vec_pretty(ports).map_err(|error| io("write", file)(error.into()))?;
    let new = file.with_extension("json.new");
    fs::write(&new, bytes).map_err(io("write", &new))?;
    fs::rename(&new, file).map_err(io("rename", &new))
}

/// A listener on a free port that is not chosen yet. Random, so that parallel processes rarely meet.
fn pick(chosen: &BTreeMap<String, u16>) -> Result<TcpListener, Error> {
    for _ in 0..200 {
        let port = rand::random_range(FREE_FROM..=FREE_TO);
        if chosen.values().any(|other| *other == port) {
            continue;
        }
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            return Ok(listener);
        }
    }
    Err(Error::NoFreePort {
        from: FREE_FROM,
        to: FREE_TO,
    })
}
