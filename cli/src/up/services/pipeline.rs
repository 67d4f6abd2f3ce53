//! The services that move data: capture, the projector and ingest, each with its control API and what lives beside it.

use std::future::Future;
use std::sync::Arc;

use millrace_control::Front;
use millrace_postgres_cdc::{self as capture, Capture};
use millrace_projections::engine;
use millrace_users_data as ingest;
use tokio_util::sync::CancellationToken;

use super::{remade, Services, Wiring};
use crate::services::Control;
use crate::up::parts::{beside, Beside};
use crate::up::states::States;
use crate::up::supervise::Role;

/// A service that moves data, with its control API.
struct ServicePart {
    name: &'static str,
    control: &'static str,
    /// What only a running one can do: it is refused at once while the service is down.
    needs_it: &'static [&'static str],
}

const CAPTURE: ServicePart = ServicePart {
    name: "capture",
    control: "capture's control API",
    needs_it: &[
        "/tables/add",
        "/tables/remove",
        "/tables/resnapshot",
        "/tables/begin-again",
    ],
};
/// A pause can be written down at any time.
const PROJECTOR: ServicePart = ServicePart {
    name: "projector",
    control: "projector's control API",
    needs_it: &[
        "/hold",
        "/stop-before",
        "/release",
        "/wait",
        "/rebuild",
        "/drop",
    ],
};
const INGEST: ServicePart = ServicePart {
    name: "ingest",
    control: "ingest's control API",
    needs_it: &[],
};
/// Their control APIs say why they are down.
pub(super) const SPEAK_FOR_THEMSELVES: [&str; 3] = [CAPTURE.name, PROJECTOR.name, INGEST.name];

/// One start of a service.
#[derive(Clone)]
struct Start {
    front: Front,
    /// Of the control API.
    token: String,
    wiring: Arc<Wiring>,
    states: States,
    /// Asks it to end.
    stop: CancellationToken,
}

impl Start {
    /// What lives beside the service, for as long as that runs.
    fn beside<R>(
        &self,
        name: &'static str,
        work: impl Fn(Arc<Wiring>, CancellationToken) -> R + Send + 'static,
    ) -> Beside
    where
        R: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let wiring = self.wiring.clone();
        beside(&self.states, name, self.stop.clone(), move |stop| {
            work(wiring.clone(), stop)
        })
    }
}

impl Services {
    /// Starts capture, the projector, and ingest if the deployment has one, each with its control API. What cannot work
    /// as it is configured fails here; what happens later is up to the rules of supervision.
    pub(crate) async fn start_pipeline(&mut self) -> anyhow::Result<()> {
        self.start_capture().await?;
        self.start_projector().await?;
        if self.wiring.endpoints.ingest_control.is_empty() {
            return Ok(());
        }
        self.start_ingest().await
    }

    async fn start_capture(&mut self) -> anyhow::Result<()> {
        let make = remade(&self.wiring, |wiring| {
            let config = crate::services::capture(&wiring.settings, &wiring.endpoints)?;
            Ok(Capture::new(config)?)
        })?;
        let newest = self.capture.clone();
        let run = move |capture: Capture, start: Start| {
            let newest = newest.clone();
            async move {
                let handle = capture.handle();
                start
                    .front
                    .show(capture::control::api(handle.clone(), &start.token));
                newest.set(handle.clone());
                let _mirror = start.beside("capture's consumer offsets", move |wiring, stop| {
                    let (settings, endpoints) = (&wiring.settings, &wiring.endpoints);
                    without_error(crate::services::mirror_capture(
                        settings, endpoints, &handle, stop,
                    ))
                });
                Ok(capture.run(start.stop).await?)
            }
        };
        let listen = |wiring: Arc<Wiring>| async move {
            crate::services::capture_control(&wiring.settings, &wiring.endpoints).await
        };
        self.keep_service(&CAPTURE, make, run, listen).await
    }

    async fn start_projector(&mut self) -> anyhow::Result<()> {
        let make = remade(&self.wiring, |wiring| {
            let config = crate::services::projector(&wiring.settings, &wiring.endpoints)?;
            Ok(engine::Service::new(config))
        })?;
        let newest = self.projector.clone();
        let run = move |projector: engine::Service, start: Start| {
            let newest = newest.clone();
            async move {
                let handle = projector.handle();
                start.front.show(millrace_projections::control::api(
                    handle.clone(),
                    &start.token,
                ));
                newest.set(handle.clone());
                let verified = handle.clone();
                let _verify = start.beside("projector's verification", move |wiring, stop| {
                    let handle = verified.clone();
                    async move {
                        let (settings, endpoints) = (&wiring.settings, &wiring.endpoints);
                        crate::services::verify_by_itself(settings, endpoints, handle, stop).await
                    }
                });
                let _mirror = start.beside("projector's consumer offsets", move |wiring, stop| {
                    let (settings, endpoints) = (&wiring.settings, &wiring.endpoints);
                    without_error(crate::services::mirror_projector(
                        settings,
                        endpoints,
                        handle.clone(),
                        stop,
                    ))
                });
                Ok(projector.run(start.stop.clone()).await?)
            }
        };
        let listen = |wiring: Arc<Wiring>| async move {
            crate::services::control(&wiring.settings, &wiring.endpoints).await
        };
        self.keep_service(&PROJECTOR, make, run, listen).await
    }

    async fn start_ingest(&mut self) -> anyhow::Result<()> {
        let make = remade(&self.wiring, |wiring| {
            let config = crate::services::ingest(&wiring.settings, &wiring.endpoints)?;
            let rejected = ingest::Rejected::open(config.clone())?;
            Ok((rejected, ingest::Service::new(config)?))
        })?;
        let run = |(rejected, made): (ingest::Rejected, (ingest::Service, ingest::Handle)),
                   start: Start| async move {
            let (ingest, handle) = made;
            start
                .front
                .show(ingest::control::api(handle.clone(), rejected, &start.token));
            let _mirror = start.beside("ingest's consumer offsets", move |wiring, stop| {
                let (settings, endpoints) = (&wiring.settings, &wiring.endpoints);
                without_error(crate::services::mirror_ingest(
                    settings,
                    endpoints,
                    handle.clone(),
                    stop,
                ))
            });
            Ok(ingest.run(start.stop.clone()).await?)
        };
        let listen = |wiring: Arc<Wiring>| async move {
            crate::services::ingest_control(&wiring.settings, &wiring.endpoints).await
        };
        self.keep_service(&INGEST, make, run, listen).await
    }

    /// Keeps a service that moves data, and its control API. `make` makes the service of each start, `run` shows its API
    /// and runs it, `listen` takes the address of the API.
    async fn keep_service<T: Send + 'static, R, L>(
        &mut self,
        service: &'static ServicePart,
        mut make: impl FnMut() -> anyhow::Result<T> + Send + 'static,
        run: impl Fn(T, Start) -> R + Send + 'static,
        listen: impl Fn(Arc<Wiring>) -> L + Send + 'static,
    ) -> anyhow::Result<()>
    where
        R: Future<Output = anyhow::Result<()>> + Send + 'static,
        L: Future<Output = anyhow::Result<Control>> + Send + 'static,
    {
        let control = listen(self.wiring.clone()).await?;
        let states = self.states.clone();
        let front = Front::new(service.needs_it, move || states.down(service.name));
        let start = Start {
            front: front.clone(),
            token: control.token().to_owned(),
            wiring: self.wiring.clone(),
            states: self.states.clone(),
            stop: CancellationToken::new(),
        };
        self.parts
            .keep_shown(service.name, Role::MovesData, &front, move |stop| {
                let start = Start {
                    stop,
                    ..start.clone()
                };
                let running = make().map(|made| run(made, start));
                async move { running?.await }
            });
        self.keep_control(service.control, front, control, listen);
        Ok(())
    }
}

async fn without_error(work: impl Future<Output = ()>) -> anyhow::Result<()> {
    work.await;
    Ok(())
}
