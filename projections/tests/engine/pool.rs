//! The pool of those who look at marts, behind a connection that vanishes.

use millrace_sessions::mysql;
use sqlx::Connection;

use super::support::proxy::{Proxy, Vanish};
use super::support::Server;
use super::world::PATIENCE;

/// COM_PING: a packet of one byte, the first of its sequence.
const PING: &str = "\u{1}\0\0\0\u{e}";

/// The driver's own ping on giving back has no limit.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_falls_silent_when_it_is_given_back_frees_its_place() {
    let server = Server::shared().await;
    let proxy = Proxy::start(server.port()).await;
    let url = server.url(&server.database().await);
    let url = url.replace(&format!(":{}", server.port()), &format!(":{}", proxy.port));
    let pool = mysql::pool(&url, 1).expect("a URL");
    let mut session = pool.session().await.expect("a session");
    session.ping().await.expect("an answer");
    proxy.arm(Vanish::Before(PING));
    drop(session);
    let another = async {
        loop {
            // Waits for a place itself, for a few seconds.
            if let Ok(session) = pool.session().await {
                return session;
            }
        }
    };
    let mut session = tokio::time::timeout(PATIENCE, another)
        .await
        .expect("a place");
    assert!(!proxy.is_armed());
    session.ping().await.expect("an answer");
}
