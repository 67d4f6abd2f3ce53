//! `millrace tables begin-again`: the way back from whatever voids the log.

use std::time::Duration;

use serde_json::Value;
use tokio::time::{sleep, timeout};

use crate::endpoints::Endpoints;
use crate::output;

/// A projector that is not behind has heard of it sooner.
const HEARD_WITHIN: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Has capture begin the log again. Returns when the projector has heard of it, or does not answer in time: what is said of
/// tables before that is about the earlier log.
pub(super) async fn begin(endpoints: &Endpoints) -> anyhow::Result<()> {
    let before = incarnation(endpoints).await;
    endpoints.capture().post("/tables/begin-again").await?;
    let heard = async {
        while incarnation(endpoints).await == before {
            sleep(LOOK_EVERY).await;
        }
    };
    let told = match timeout(HEARD_WITHIN, heard).await {
        Ok(()) => "the log is begun again, and all tables are copied; until then MySQL keeps what it has",
        Err(_) => {
            "the log is begun again, and all tables are copied. The projector has not heard of it yet: it is down, paused or \
             behind, see `millrace status`; nothing needs to be repeated"
        }
    };
    output::tell(told);
    Ok(())
}

/// Name of the log that the projector follows; null if it does not say.
async fn incarnation(endpoints: &Endpoints) -> Value {
    let status = endpoints.projector().get("/status").await;
    status.map_or(Value::Null, |status| status["incarnation"].clone())
}
