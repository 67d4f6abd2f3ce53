//! How the kinds of objects appear to administrators and watchers.

use std::collections::BTreeMap;

use fluvio_controlplane_metadata::partition::{
    PartitionResolution, PartitionStatus, ReplicaStatus,
};
use fluvio_controlplane_metadata::spu::{SpuStatus, SpuStatusResolution};
use fluvio_controlplane_metadata::topic::{TopicResolution, TopicStatus};
use fluvio_sc_schema::objects::Metadata;
use fluvio_sc_schema::partition::PartitionSpec;
use fluvio_sc_schema::smartmodule::SmartModuleSpec;
use fluvio_sc_schema::spu::SpuSpec;
use fluvio_sc_schema::tableformat::TableFormatSpec;
use fluvio_sc_schema::topic::TopicSpec;

use super::{partition_spec, Entry, State, Topic, SPU_ID, SPU_NAME};
use crate::log::PartitionLog;

/// A kind of object that can be listed and watched.
pub(crate) trait Listed {
    /// Name, specification and status as they go over the wire.
    type Object;

    /// All of them, each with the epoch of its last change. Restricted to the catalog.
    #[allow(private_interfaces)]
    fn list(state: &State) -> Vec<(i64, Self::Object)>;
}

impl Listed for TopicSpec {
    type Object = Metadata<Self>;

    #[allow(private_interfaces)]
    fn list(state: &State) -> Vec<(i64, Metadata<Self>)> {
        let object = |(name, entry): (&String, &Entry<Topic>)| {
            let status = topic_status(entry.value.logs.len());
            (
                entry.epoch,
                Metadata {
                    name: name.clone(),
                    spec: entry.value.spec.clone(),
                    status,
                },
            )
        };
        state.topics.iter().map(object).collect()
    }
}

impl Listed for PartitionSpec {
    type Object = Metadata<Self>;

    #[allow(private_interfaces)]
    fn list(state: &State) -> Vec<(i64, Metadata<Self>)> {
        let mut objects = Vec::new();
        for (topic, entry) in &state.topics {
            for (partition, log) in entry.value.logs.iter().enumerate() {
                let name = format!("{topic}-{partition}");
                let object = Metadata {
                    name,
                    spec: partition_spec(&entry.value.spec),
                    status: partition_status(log),
                };
                objects.push((entry.epoch, object));
            }
        }
        objects
    }
}

impl Listed for SpuSpec {
    type Object = Metadata<Self>;

    #[allow(private_interfaces)]
    fn list(state: &State) -> Vec<(i64, Metadata<Self>)> {
        let status = SpuStatus {
            resolution: SpuStatusResolution::Online,
        };
        let object = Metadata {
            name: SPU_NAME.to_owned(),
            spec: state.spu.value.clone(),
            status,
        };
        vec![(state.spu.epoch, object)]
    }
}

impl Listed for SmartModuleSpec {
    type Object = Metadata<Self>;

    #[allow(private_interfaces)]
    fn list(state: &State) -> Vec<(i64, Metadata<Self>)> {
        named(&state.smart_modules, |name, spec| Metadata {
            name,
            spec,
            status: Default::default(),
        })
    }
}

impl Listed for TableFormatSpec {
    type Object = Metadata<Self>;

    #[allow(private_interfaces)]
    fn list(state: &State) -> Vec<(i64, Metadata<Self>)> {
        named(&state.table_formats, |name, spec| Metadata {
            name,
            spec,
            status: Default::default(),
        })
    }
}

fn named<S: Clone, O>(
    entries: &BTreeMap<String, Entry<S>>,
    object: impl Fn(String, S) -> O,
) -> Vec<(i64, O)> {
    entries
        .iter()
        .map(|(name, entry)| (entry.epoch, object(name.clone(), entry.value.clone())))
        .collect()
}

fn topic_status(partitions: usize) -> TopicStatus {
    TopicStatus {
        resolution: TopicResolution::Provisioned,
        replica_map: (0..partitions as u32)
            .map(|partition| (partition, vec![SPU_ID]))
            .collect(),
        ..TopicStatus::default()
    }
}

fn partition_status(log: &PartitionLog) -> PartitionStatus {
    let bounds = log.bounds();
    PartitionStatus {
        resolution: PartitionResolution::Online,
        leader: ReplicaStatus {
            spu: SPU_ID,
            hw: bounds.end,
            leo: bounds.end,
        },
        size: i64::try_from(log.bytes()).unwrap_or(i64::MAX),
        base_offset: bounds.start,
        ..PartitionStatus::default()
    }
}
