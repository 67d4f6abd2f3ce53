//! End-to-end tests on real servers. See each module for what it shows.

mod attack;
mod begun_again;
mod binary;
mod broker;
mod cases;
mod interrupt;
mod kill;
mod lag;
mod large;
mod load;
mod mirror;
mod names;
mod oracle;
mod own_servers;
mod page;
mod page_keyboard;
mod repair;
mod services;
mod stage;
mod stalled;
mod supervise;
mod tables;
mod types;
mod values;
mod verified;
