//! TLS on both listeners, with the client's own TLS.

use std::path::{Path, PathBuf};

use fluvio::config::{TlsCerts, TlsPolicy};
use fluvio::metadata::topic::TopicSpec;
use fluvio::{Fluvio, FluvioAdmin, FluvioClusterConfig};
use millrace_broker::{Broker, Config, Handle, OpenError, Storage, Tls};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::*;

const DOMAIN: &str = "broker.test";

/// A certificate authority of a test.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().expect("key");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).expect("root").pem();
        let issuer = Issuer::new(params, key);
        Self { issuer, pem }
    }

    /// Certificate and key, in PEM.
    fn issue(&self, names: &[&str]) -> (String, String) {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let key = KeyPair::generate().expect("key");
        let params = CertificateParams::new(names).expect("names");
        let certificate = params.signed_by(&key, &self.issuer).expect("signed");
        (certificate.pem(), key.serialize_pem())
    }

    /// What a client of this authority is configured with.
    fn client(&self) -> TlsPolicy {
        let (cert, key) = self.issue(&["client.test"]);
        let certs = TlsCerts {
            domain: DOMAIN.to_owned(),
            key,
            cert,
            ca_cert: self.pem.clone(),
        };
        certs.into()
    }
}

struct Files {
    _dir: TempDir,
    tls: Tls,
}

fn write(dir: &Path, name: &str, text: &str) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, text).expect("written");
    path
}

/// A client asks the SPU for the domain with the SPU's number before it.
fn server_files(authority: &Authority) -> Files {
    let dir = tempfile::tempdir().expect("directory");
    let (certificate, key) = authority.issue(&[DOMAIN, &format!("*.{DOMAIN}")]);
    let tls = Tls {
        certificate: write(dir.path(), "cert.pem", &certificate),
        key: write(dir.path(), "key.pem", &key),
        client_ca: None,
    };
    Files { _dir: dir, tls }
}

async fn open(tls: &Tls) -> Result<Handle, OpenError> {
    let config = Config::on_loopback(Storage::Temporary);
    Broker::open(Config {
        tls: Some(tls.clone()),
        ..config
    })
    .await
}

fn cluster(broker: &Handle, policy: TlsPolicy) -> FluvioClusterConfig {
    FluvioClusterConfig::new(broker.sc_addr().to_string()).with_tls(policy)
}

async fn round_trip(broker: &Handle, policy: TlsPolicy, topic: &str) {
    let cluster = cluster(broker, policy);
    let admin = patient(FluvioAdmin::connect_with_config(&cluster));
    let admin = admin.await.expect("admin connects");
    let spec = TopicSpec::new_computed(1, 1, None);
    patient(admin.create(topic.to_owned(), false, spec))
        .await
        .expect("topic");
    let client = patient(Fluvio::connect_with_config(&cluster));
    let client = client.await.expect("client connects");
    let producer = producer(&client, topic).await;
    // Larger than a TLS record, and than what is written at once.
    let large = "x".repeat(300_000);
    assert_eq!(send_all(&producer, ["small", &large]).await, [0, 1]);
    let read = take(&client, consumer(topic).build().expect("config"), 2).await;
    assert_eq!(values(&read), ["small", &large]);
}

/// A refused client tries again for a while; what it is refused with is its own affair.
async fn refused(broker: &Handle, policy: TlsPolicy) {
    let cluster = cluster(broker, policy);
    let connected = patient(Fluvio::connect_with_config(&cluster)).await;
    assert!(connected.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_use_tls_on_both_listeners() {
    let authority = Authority::new();
    let files = server_files(&authority);
    let broker = open(&files.tls).await.expect("opens");
    round_trip(&broker, authority.client(), "verified").await;
    refused(&broker, Authority::new().client()).await;
    broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_show_a_certificate_where_one_is_required() {
    let (server, clients) = (Authority::new(), Authority::new());
    let mut files = server_files(&server);
    let ca = files._dir.path().join("clients.pem");
    std::fs::write(&ca, &clients.pem).expect("written");
    files.tls.client_ca = Some(ca);
    let broker = open(&files.tls).await.expect("opens");
    let (cert, key) = clients.issue(&["client.test"]);
    let known = TlsCerts {
        domain: DOMAIN.to_owned(),
        key,
        cert,
        ca_cert: server.pem.clone(),
    };
    round_trip(&broker, known.into(), "known").await;
    refused(&broker, server.client()).await;
    broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_does_not_speak_tls_is_let_go_and_holds_up_nobody() {
    let authority = Authority::new();
    let files = server_files(&authority);
    let broker = open(&files.tls).await.expect("opens");
    for address in [broker.sc_addr(), broker.spu_addr()] {
        let silent = TcpStream::connect(address).await.expect("connects");
        for bytes in [&[0, 0, 0, 9, 0, 18, 0, 0, 0, 0, 0, 1, 0][..], &[0xff; 4096]] {
            let mut stream = TcpStream::connect(address).await.expect("connects");
            let _ = stream.write_all(bytes).await;
            let mut answer = Vec::new();
            // An alert, or a reset; in any case an end.
            let _ = patient(stream.read_to_end(&mut answer)).await;
        }
        drop(silent);
    }
    let silent = TcpStream::connect(broker.sc_addr())
        .await
        .expect("connects");
    refused(&broker, TlsPolicy::Disabled).await;
    round_trip(&broker, authority.client(), "fine").await;
    drop(silent);
    broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unusable_certificates_are_named_when_the_broker_opens() {
    let authority = Authority::new();
    let files = server_files(&authority);
    let dir = files._dir.path();
    let other_key = authority.issue(&[DOMAIN]).1;
    let cases = [
        (
            "absent.pem",
            Tls {
                certificate: dir.join("absent.pem"),
                ..files.tls.clone()
            },
        ),
        (
            "empty.pem",
            Tls {
                certificate: write(dir, "empty.pem", ""),
                ..files.tls.clone()
            },
        ),
        (
            "rubbish.pem",
            Tls {
                key: write(dir, "rubbish.pem", "rubbish"),
                ..files.tls.clone()
            },
        ),
        (
            "other.pem",
            Tls {
                key: write(dir, "other.pem", &other_key),
                ..files.tls.clone()
            },
        ),
        (
            "no-ca.pem",
            Tls {
                client_ca: Some(dir.join("no-ca.pem")),
                ..files.tls.clone()
            },
        ),
    ];
    for (named, tls) in cases {
        let error = open(&tls).await.expect_err(named);
        assert!(error.to_string().contains(named), "{error}");
    }
}
