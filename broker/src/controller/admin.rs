//! Creating, deleting, listing and changing objects.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use fluvio_protocol::{Decoder, Encoder};
use fluvio_sc_schema::customspu::CustomSpuSpec;
use fluvio_sc_schema::errors::ErrorCode;
use fluvio_sc_schema::objects::{
    CreateRequest, DeleteRequest, ListFilters, ListRequest, ListResponse, Metadata,
    ObjectApiListResponse, UpdateRequest,
};
use fluvio_sc_schema::partition::PartitionSpec;
use fluvio_sc_schema::smartmodule::{SmartModulePackageKey, SmartModuleSpec};
use fluvio_sc_schema::spu::SpuSpec;
use fluvio_sc_schema::store::KeyFilter;
use fluvio_sc_schema::tableformat::TableFormatSpec;
use fluvio_sc_schema::topic::{TopicSpec, UpdateTopicAction};
use fluvio_sc_schema::{AdminSpec, DeletableAdminSpec, Status, TryEncodableFrom};
use fluvio_types::defaults::CONSUMER_STORAGE_TOPIC;

use super::{Connection, Controller};
use crate::catalog::{Listed, Refusal, SPU_NAME};
use crate::net::Frame;
use crate::request::{self, Labelled, Request};

/// Outcome of a change: its epoch if something changed.
type Change = Result<Option<i64>, Refusal>;

impl Connection {
    /// Creates an object. It is durable, and known to all watches, before the answer is sent.
    pub(super) async fn create(&self, request: &Request) -> io::Result<()> {
        let (label, body) = request.labelled()?;
        let version = request.version;
        let (name, change) = match label.as_str() {
            "Topic" => self.create_topic(request::decode(body, version)?).await?,
            "SmartModule" => {
                self.create_smart_module(request::decode(body, version)?)
                    .await?
            }
            "TableFormat" => {
                self.create_table_format(request::decode(body, version)?)
                    .await?
            }
            "CustomSpu" => create_spu(request::decode(body, version)?),
            other => (
                String::new(),
                Err(Refusal::new(
                    ErrorCode::InvalidCreateRequest,
                    format!("cannot create {other:?}"),
                )),
            ),
        };
        self.conclude(request, name, change).await
    }

    async fn create_topic(&self, asked: CreateRequest<TopicSpec>) -> io::Result<(String, Change)> {
        let CreateRequest {
            common,
            request: spec,
        } = asked;
        let name = common.name.clone();
        if let Err(refusal) = self.controller.catalog.check_deduplication(&spec).await {
            return Ok((name, Err(refusal)));
        }
        let change = self
            .blocking(move |c| c.create_topic(&common.name, spec, common.dry_run))
            .await?;
        Ok((name, change))
    }

    async fn create_smart_module(
        &self,
        asked: CreateRequest<SmartModuleSpec>,
    ) -> io::Result<(String, Change)> {
        let CreateRequest {
            common,
            request: spec,
        } = asked;
        let name = common.name.clone();
        if common.dry_run {
            return Ok((name, Ok(None)));
        }
        let put = self
            .blocking(move |c| c.catalog.put_smart_module(&common.name, spec))
            .await?;
        Ok(match put {
            Ok((stored, epoch)) => (stored, Ok(Some(epoch))),
            Err(refusal) => (name, Err(refusal)),
        })
    }

    async fn create_table_format(
        &self,
        asked: CreateRequest<TableFormatSpec>,
    ) -> io::Result<(String, Change)> {
        let CreateRequest {
            common,
            request: spec,
        } = asked;
        let name = common.name.clone();
        if common.dry_run {
            return Ok((name, Ok(None)));
        }
        let change = self
            .blocking(move |c| c.catalog.create_table_format(&common.name, spec).map(Some))
            .await?;
        Ok((name, change))
    }

    /// Deletes an object and, of a topic, its records and the consumer offsets on it.
    pub(super) async fn delete(&self, request: &Request) -> io::Result<()> {
        let (label, body) = request.labelled()?;
        let (name, change) = match label.as_str() {
            "Topic" => {
                let asked: DeleteRequest<TopicSpec> = request::decode(body, request.version)?;
                let force = asked.is_force();
                let name = asked.key();
                let topic = name.clone();
                let change = self.blocking(move |c| c.delete_topic(&topic, force));
                (name, change.await?)
            }
            "SmartModule" => {
                let name = deleted::<SmartModuleSpec>(request, body)?;
                let module = name.clone();
                (
                    name,
                    self.blocking(move |c| c.catalog.delete_smart_module(&module).map(Some))
                        .await?,
                )
            }
            "TableFormat" => {
                let name = deleted::<TableFormatSpec>(request, body)?;
                let format = name.clone();
                (
                    name,
                    self.blocking(move |c| c.catalog.delete_table_format(&format).map(Some))
                        .await?,
                )
            }
            other => (
                String::new(),
                Err(Refusal::new(
                    ErrorCode::InvalidDeleteRequest,
                    format!("cannot delete {other:?}"),
                )),
            ),
        };
        self.conclude(request, name, change).await
    }

    /// Changes an object; adding partitions to a topic is the only change there is.
    pub(super) async fn update(&self, request: &Request) -> io::Result<()> {
        let (label, body) = request.labelled()?;
        if label != "Topic" {
            let refusal = Refusal::new(
                ErrorCode::InvalidCreateRequest,
                format!("cannot update {label:?}"),
            );
            return self.conclude(request, String::new(), Err(refusal)).await;
        }
        let UpdateParts { name, action } = update_parts(request, body)?;
        let topic = name.clone();
        let change = match action {
            UpdateTopicAction::AddPartition(added) => {
                self.blocking(move |c| c.catalog.add_partitions(&topic, added.count).map(Some))
                    .await?
            }
            UpdateTopicAction::AddMirror(_) => Err(Refusal::new(
                ErrorCode::MirrorInvalidType,
                "mirrors need a real cluster",
            )),
        };
        self.conclude(request, name, change).await
    }

    /// Lists objects of a kind, those asked for by name or all.
    pub(super) async fn list(&self, request: &Request) -> io::Result<()> {
        let (label, body) = request.labelled()?;
        let frame = match label.as_str() {
            "Topic" => self.listed::<TopicSpec>(request, body, |asked, topic| {
                topic.spec.is_system() == asked.system
            })?,
            "Partition" => self.listed::<PartitionSpec>(request, body, |asked, partition| {
                partition.spec.system == asked.system
            })?,
            "SPU" => self.listed::<SpuSpec>(request, body, |_, _| true)?,
            "SmartModule" => self.listed_smart_modules(request, body)?,
            "TableFormat" => self.listed::<TableFormatSpec>(request, body, |_, _| true)?,
            "CustomSpu" => self.listed_custom_spus(request, body)?,
            // Groups of SPUs, mirrors, and kinds that this broker has never heard of: there are none.
            other => nothing_listed(request, other)?,
        };
        self.send(frame).await
    }

    fn listed<S>(
        &self,
        request: &Request,
        body: Bytes,
        wanted: impl Fn(&ListRequest<S>, &Metadata<S>) -> bool,
    ) -> io::Result<Frame>
    where
        S: AdminSpec + Listed<Object = Metadata<S>>,
        S::Status: Encoder + Decoder + std::fmt::Debug,
    {
        let asked: ListRequest<S> = request::decode(body, request.version)?;
        let (_, objects) = self.controller.catalog.list::<S>();
        let objects = objects.into_iter().map(|(_, object)| object);
        let kept = objects.filter(|object| {
            asked.name_filters.filter(object.name.as_str()) && wanted(&asked, object)
        });
        list_frame(
            request,
            kept.map(|object| {
                if asked.summary {
                    object.summary()
                } else {
                    object
                }
            })
            .collect(),
        )
    }

    fn listed_smart_modules(&self, request: &Request, body: Bytes) -> io::Result<Frame> {
        let asked: ListRequest<SmartModuleSpec> = request::decode(body, request.version)?;
        let (_, objects) = self.controller.catalog.list::<SmartModuleSpec>();
        let objects = objects.into_iter().map(|(_, object)| object);
        let keys = package_keys(asked.name_filters);
        let kept = objects.filter(|object| {
            keys.is_empty()
                || keys
                    .iter()
                    .any(|(name, key)| is_module(object, name, key.as_ref()))
        });
        list_frame(
            request,
            kept.map(|object| {
                if asked.summary {
                    object.summary()
                } else {
                    object
                }
            })
            .collect(),
        )
    }

    fn listed_custom_spus(&self, request: &Request, body: Bytes) -> io::Result<Frame> {
        let asked: ListRequest<CustomSpuSpec> = request::decode(body, request.version)?;
        let (_, spus) = self.controller.catalog.list::<SpuSpec>();
        let custom = |(_, spu): (i64, Metadata<SpuSpec>)| Metadata {
            name: spu.name,
            spec: CustomSpuSpec::from(spu.spec),
            status: spu.status,
        };
        let kept = spus
            .into_iter()
            .map(custom)
            .filter(|spu| asked.name_filters.filter(spu.name.as_str()));
        list_frame(request, kept.collect())
    }

    /// Answers a change, after all watches have been told.
    async fn conclude(&self, request: &Request, name: String, change: Change) -> io::Result<()> {
        let status = match change {
            Ok(epoch) => {
                if let Some(epoch) = epoch {
                    self.told(epoch).await?;
                }
                Status::new_ok(name)
            }
            Err(Refusal { code, message }) => Status::new(name, code, message),
        };
        self.send(Frame::response(
            request.correlation,
            request.version,
            &status,
        )?)
        .await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Controller) -> T + Send + 'static,
    ) -> io::Result<T> {
        let controller: Arc<Controller> = self.controller.clone();
        tokio::task::spawn_blocking(move || work(&controller))
            .await
            .map_err(io::Error::other)
    }
}

impl Controller {
    /// A new topic has no consumers: an offset that was stored while an earlier one of that name was being deleted, or
    /// that a crash left behind, says nothing about it, and would hold its records for nobody.
    pub(crate) fn create_topic(&self, name: &str, spec: TopicSpec, dry_run: bool) -> Change {
        if !dry_run && self.catalog.partition(name, 0).is_none() {
            self.positions.forget_topic(name)?;
        }
        self.catalog.create_topic(name, spec, dry_run)
    }

    pub(crate) fn delete_topic(&self, name: &str, force: bool) -> Change {
        let epoch = self.catalog.delete_topic(name, force)?;
        match name {
            CONSUMER_STORAGE_TOPIC => self.positions.forget_all()?,
            _ => self.positions.forget_topic(name)?,
        }
        Ok(Some(epoch))
    }
}

struct UpdateParts {
    name: String,
    action: UpdateTopicAction,
}

fn update_parts(request: &Request, body: Bytes) -> io::Result<UpdateParts> {
    let asked: UpdateRequest<TopicSpec> = request::decode(body, request.version)?;
    let action = asked.action.clone();
    Ok(UpdateParts {
        name: asked.key(),
        action,
    })
}

/// The broker is its own and only SPU: registering it again is an error that set-up scripts expect.
fn create_spu(asked: CreateRequest<CustomSpuSpec>) -> (String, Change) {
    let message = format!("this broker's only SPU is {SPU_NAME}");
    (
        asked.common.name,
        Err(Refusal::new(ErrorCode::SpuAlreadyExists, message)),
    )
}

fn deleted<S: DeletableAdminSpec<DeleteKey = String> + std::fmt::Debug>(
    request: &Request,
    body: Bytes,
) -> io::Result<String> {
    let asked: DeleteRequest<S> = request::decode(body, request.version)?;
    Ok(asked.key())
}

fn list_frame<S>(request: &Request, objects: Vec<Metadata<S>>) -> io::Result<Frame>
where
    S: AdminSpec,
    S::Status: Encoder + Decoder + std::fmt::Debug,
{
    let response =
        ObjectApiListResponse::try_encode_from(ListResponse::new(objects), request.version)
            .map_err(io::Error::other)?;
    Frame::response(request.correlation, request.version, &response)
}

/// The empty list of any kind: a count of 0.
fn nothing_listed(request: &Request, label: &str) -> io::Result<Frame> {
    let empty = Labelled::new(label, &0i32, request.version)?;
    Frame::response(request.correlation, request.version, &empty)
}

fn package_keys(filters: ListFilters) -> Vec<(String, Option<SmartModulePackageKey>)> {
    let filters: Vec<fluvio_sc_schema::objects::ListFilter> = filters.into();
    filters
        .into_iter()
        .map(|filter| {
            (
                filter.name.clone(),
                SmartModulePackageKey::from_qualified_name(&filter.name).ok(),
            )
        })
        .collect()
}

fn is_module(
    object: &Metadata<SmartModuleSpec>,
    name: &str,
    key: Option<&SmartModulePackageKey>,
) -> bool {
    let package = object.spec.meta.as_ref().map(|meta| &meta.package);
    object.name == name || key.is_some_and(|key| key.is_match(&object.name, package))
}
