//! `millrace consumers`: the consumers that have published offsets, and an end for those that never come back.
//!
//! The embedded broker keeps what a consumer of ours has not read, up to a limit. One that is gone for good (a topic that
//! was renamed, a target that was given up) would hold its topic until then.

use std::collections::BTreeMap;
use std::process::ExitCode;

use chrono::DateTime;
use millrace_topic::{Cluster, Consumer, Offset, Partition};
use serde_json::json;

use crate::answer;
use crate::args::{self, Asked, ConsumersAction, DeletedConsumer, Target};
use crate::control::{self, Refused};
use crate::endpoints::Endpoints;
use crate::settings::Settings;
use crate::terminal::{printable, table};

/// Does what was asked. Exit 1 if there is no such consumer.
pub(crate) async fn run(args: &args::Consumers, settings: &Settings) -> anyhow::Result<ExitCode> {
    let done = async {
        match &args.action {
            ConsumersAction::List(asked) => list(asked, settings).await?,
            ConsumersAction::Delete(args) => delete(args, settings).await?,
        }
        Ok(ExitCode::SUCCESS)
    };
    control::told(done).await
}

/// Not waited for: whoever asks is told at once that nobody answers.
fn cluster(target: &Target, settings: &Settings) -> anyhow::Result<Cluster> {
    let endpoints = Endpoints::find(target, settings)?;
    Ok(Cluster::new(endpoints.fluvio.as_str()))
}

async fn list(asked: &Asked, settings: &Settings) -> anyhow::Result<()> {
    let cluster = cluster(&asked.target, settings)?;
    let consumers = cluster.consumers().await?;
    let ends = ends(cluster.partitions().await?);
    let text = match asked.json {
        true => as_json(&consumers, &ends)?,
        false => as_text(&consumers, &ends),
    };
    answer::print(&text)?;
    Ok(())
}

/// Where each partition ends, by topic and number; not known of one that has no server now.
type Ends = BTreeMap<(String, u32), Option<Offset>>;

fn ends(partitions: Vec<Partition>) -> Ends {
    let end = |partition: Partition| ((partition.topic, partition.number), partition.end);
    partitions.into_iter().map(end).collect()
}

/// Records behind the one that it published; `None` if its topic is gone, or its end is not known.
fn behind(consumer: &Consumer, ends: &Ends) -> Option<u64> {
    let end = (*ends.get(&(consumer.topic.clone(), consumer.partition))?)?;
    Some(end.0.saturating_sub(consumer.offset.next().0))
}

fn said_at(consumer: &Consumer) -> Option<String> {
    let at = DateTime::from_timestamp(i64::try_from(consumer.said_at_s).ok()?, 0)?;
    Some(millrace_control::time::text(at))
}

fn as_json(consumers: &[Consumer], ends: &Ends) -> anyhow::Result<String> {
    let one = |consumer: &Consumer| {
        json!({
            "consumer": consumer.name,
            "topic": consumer.topic,
            "partition": consumer.partition,
            "offset": consumer.offset.0,
            "behind_records": behind(consumer, ends),
            "published_at": said_at(consumer),
        })
    };
    let all: Vec<_> = consumers.iter().map(one).collect();
    Ok(serde_json::to_string_pretty(&json!({ "consumers": all }))? + "\n")
}

fn as_text(consumers: &[Consumer], ends: &Ends) -> String {
    let row = |consumer: &Consumer| {
        vec![
            printable(&consumer.name),
            printable(&consumer.topic),
            consumer.offset.to_string(),
            said_at(consumer).unwrap_or_default(),
            behind(consumer, ends).map_or("unknown".to_owned(), |records| records.to_string()),
        ]
    };
    let rows: Vec<Vec<String>> = consumers.iter().map(row).collect();
    let header = [
        "consumer",
        "topic",
        "offset",
        "published at",
        "records behind",
    ];
    table(&header, &rows)
}

async fn delete(args: &DeletedConsumer, settings: &Settings) -> anyhow::Result<()> {
    let cluster = cluster(&args.target, settings)?;
    let consumers = cluster.consumers().await?;
    let doomed = named(&consumers, &args.consumer, args.topic.as_deref())?;
    for one in doomed {
        cluster
            .delete_consumer(&one.name, &one.topic, one.partition)
            .await?;
        answer::print(&format!(
            "deleted: consumer {} of topic {}, which was at offset {}. A service that still runs publishes its offset \
             again when it moves.\n",
            printable(&one.name),
            printable(&one.topic),
            one.offset
        ))?;
    }
    Ok(())
}

/// Those of this name, on this topic or on all.
///
/// # Errors
/// [`Refused`] if there is none, with the names that there are.
fn named<'a>(
    consumers: &'a [Consumer],
    name: &str,
    topic: Option<&str>,
) -> Result<Vec<&'a Consumer>, Refused> {
    let is_meant =
        |one: &&Consumer| one.name == name && topic.is_none_or(|topic| one.topic == topic);
    let found: Vec<&Consumer> = consumers.iter().filter(is_meant).collect();
    if !found.is_empty() {
        return Ok(found);
    }
    let of_topic = topic.map_or(String::new(), |topic| format!(" of topic {topic}"));
    let known = |one: &Consumer| format!("{} of {}", printable(&one.name), printable(&one.topic));
    let known: Vec<String> = consumers.iter().map(known).collect();
    let known = match known.is_empty() {
        true => "there are none".to_owned(),
        false => format!("there are {}", known.join(", ")),
    };
    Err(Refused::new(format!(
        "there is no consumer {name}{of_topic}; {known}"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn consumer(name: &str, topic: &str, offset: u64) -> Consumer {
        Consumer {
            name: name.to_owned(),
            topic: topic.to_owned(),
            partition: 0,
            offset: Offset(offset),
            said_at_s: 1_800_000_000,
        }
    }

    #[test]
    fn a_consumer_is_deleted_by_its_name_on_one_topic_or_on_all() {
        let all = [
            consumer("one", "a", 1),
            consumer("one", "b", 2),
            consumer("two", "a", 3),
        ];
        let topics = |name, topic| -> Vec<&str> {
            let named = named(&all, name, topic).unwrap();
            named.iter().map(|one| one.topic.as_str()).collect()
        };
        assert_eq!(topics("one", None), ["a", "b"]);
        assert_eq!(topics("one", Some("b")), ["b"]);
        let refused = named(&all, "two", Some("b")).unwrap_err().to_string();
        assert_eq!(
            refused,
            "there is no consumer two of topic b; there are one of a, one of b, two of a"
        );
        let nobody = named(&[], "two", None).unwrap_err().to_string();
        assert_eq!(nobody, "there is no consumer two; there are none");
    }

    #[test]
    fn what_a_consumer_is_behind_is_not_known_of_a_topic_that_is_gone() {
        let ends = Ends::from([(("a".to_owned(), 0), Some(Offset(10)))]);
        assert_eq!(behind(&consumer("one", "a", 9), &ends), Some(0));
        assert_eq!(behind(&consumer("one", "a", 3), &ends), Some(6));
        assert_eq!(behind(&consumer("one", "b", 3), &ends), None);
        let text = as_text(&[consumer("one", "b", 3)], &ends);
        assert!(text.contains("2027-01-15T08:00:00.000000Z") && text.contains("unknown"));
    }
}
