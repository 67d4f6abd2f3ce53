//! TLS on the listeners, by rustls.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

use crate::config::Tls;
use crate::net::Socket;

/// A client that has not said hello within this time, with a certificate if it must, is let go.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Why certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is missing, or not in the PEM format, or holds nothing of the kind.
    #[error("cannot read {what} from {}: {reason}", path.display())]
    File {
        /// What should be in it.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Key and certificate do not belong together, or are of an unknown kind.
    #[error("certificate {} and key {} cannot be used: {reason}", certificate.display(), key.display())]
    Pair {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// Reads the files and checks that they fit together.
pub(crate) fn acceptor(tls: &Tls) -> Result<TlsAcceptor, TlsError> {
    let pair = |reason: tokio_rustls::rustls::Error| TlsError::Pair {
        certificate: tls.certificate.clone(),
        key: tls.key.clone(),
        reason: reason.to_string(),
    };
    let chain = certificates("a certificate", &tls.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&tls.key)
        .map_err(|error| unreadable("a private key", &tls.key, error))?;
    // Named, because a process with two of them has no default.
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(pair)?;
    let config = match &tls.client_ca {
        Some(path) => config.with_client_cert_verifier(client_verifier(path)?),
        None => config.with_no_client_auth(),
    };
    let config = config.with_single_cert(chain, key).map_err(pair)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn client_verifier(path: &Path) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    const WHAT: &str = "the certificates of client authorities";
    let mut roots = RootCertStore::empty();
    for root in certificates(WHAT, path)? {
        roots
            .add(root)
            .map_err(|error| unreadable(WHAT, path, error))?;
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|error| unreadable(WHAT, path, error))
}

fn certificates(what: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| unreadable(what, path, error))?;
    match certificates.is_empty() {
        true => Err(unreadable(what, path, "it holds no certificate")),
        false => Ok(certificates),
    }
}

fn unreadable(what: &'static str, path: &Path, reason: impl ToString) -> TlsError {
    TlsError::File {
        what,
        path: path.to_owned(),
        reason: reason.to_string(),
    }
}

/// A connection as it came, or after its handshake.
pub(crate) async fn socket(stream: TcpStream, tls: Option<TlsAcceptor>) -> io::Result<Socket> {
    stream.set_nodelay(true)?;
    let Some(acceptor) = tls else {
        let (read, write) = stream.into_split();
        return Ok(Socket::new(read, write));
    };
    let secured = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await;
    let secured =
        secured.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "no handshake"))??;
    let (read, write) = tokio::io::split(secured);
    Ok(Socket::new(read, write))
}
