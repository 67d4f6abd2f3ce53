//! What each service still needs of its topics, published as consumer offsets.

use std::future::Future;

use millrace_postgres_cdc as capture;
use millrace_projections::engine;
use millrace_topic::Offset;
use millrace_users_data as ingest;
use tokio_util::sync::CancellationToken;

use crate::endpoints::Endpoints;
use crate::mirror::{self, Mirror, Need};
use crate::settings::table::MILLRACE_TOPIC_USERS;
use crate::settings::{Names, Settings};

/// What the projector still needs, as consumer offsets.
pub fn mirror_projector(
    settings: &Settings,
    endpoints: &Endpoints,
    handle: engine::Handle,
    shutdown: CancellationToken,
) -> impl Future<Output = ()> + Send + 'static {
    let log = Names::of(settings).changes;
    let mirror = mirror(settings, endpoints, mirror::PROJECTOR);
    let needs = move |status: &engine::Status| {
        let live_and_copies = [status.offset, status.needed.log];
        let offset = live_and_copies.into_iter().flatten().min()?;
        let of_log = Need {
            topic: log.clone(),
            offset,
            behind: status.lag_records.unwrap_or(0),
        };
        let copies = status.needed.copies.iter().map(of_copy);
        Some(std::iter::once(of_log).chain(copies).collect())
    };
    mirror.run(handle.watch(), needs, shutdown)
}

/// What the next start of capture needs, as consumer offsets.
pub fn mirror_capture(
    settings: &Settings,
    endpoints: &Endpoints,
    handle: &capture::Handle,
    shutdown: CancellationToken,
) -> impl Future<Output = ()> + Send + 'static {
    let mirror = mirror(settings, endpoints, mirror::CAPTURE);
    let needs = |status: &capture::Status| {
        let needed = status.needed.as_ref()?;
        Some(needed.iter().map(of_copy).collect())
    };
    mirror.run(handle.watch(), needs, shutdown)
}

/// Ingest's position as a consumer offset.
pub fn mirror_ingest(
    settings: &Settings,
    endpoints: &Endpoints,
    handle: ingest::Handle,
    shutdown: CancellationToken,
) -> impl Future<Output = ()> + Send + 'static {
    let mirror = Mirror {
        endpoint: endpoints.fluvio.clone(),
        consumer: mirror::INGEST,
        copies: None,
    };
    let topic: String = settings.get(MILLRACE_TOPIC_USERS).into();
    let needs = move |status: &ingest::Status| {
        let behind = status.lag().and_then(|lag| lag.try_into().ok());
        Some(vec![Need {
            topic: topic.clone(),
            offset: Offset::of(status.next_offset? - 1)?,
            behind: behind.unwrap_or(0),
        }])
    };
    mirror.run(handle.watch(), needs, shutdown)
}

fn mirror(settings: &Settings, endpoints: &Endpoints, consumer: &'static str) -> Mirror {
    Mirror {
        endpoint: endpoints.fluvio.clone(),
        consumer,
        copies: Some(format!("{}-", Names::of(settings).snapshot_prefix)),
    }
}

/// Nobody waits for these to be published: a read for each of them would cost more than it is worth.
fn of_copy((topic, offset): (&String, &Offset)) -> Need {
    Need {
        topic: topic.clone(),
        offset: *offset,
        behind: u64::MAX,
    }
}
