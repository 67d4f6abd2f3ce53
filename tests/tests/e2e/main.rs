//! End-to-end tests on real servers. See each module for what it shows.

mod attack;
mod begun_again;
mod binary;
mod broker;
mod cases;
mod interrupt;
mod kill;
mod lag;
mod load;
mod mirror;
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
mod values;
mod verified;
