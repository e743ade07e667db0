//! TLS by rustls with the ring provider, for both directions. Certificates and keys are PEM files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tonic::transport::{Certificate, ClientTlsConfig, Identity, ServerTlsConfig};

use super::config::UpstreamConfig;
use crate::error::Error;

/// The files of a server that other machines may reach. All three are needed: there is no serving over
/// TCP without checking the clients' certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerTlsFiles {
    /// The server's certificate chain.
    pub cert_file: PathBuf,
    /// The key of that certificate.
    pub key_file: PathBuf,
    /// The certificates that must have signed those of the clients.
    pub client_ca_file: PathBuf,
}

/// The server half of mutual TLS.
pub fn server_config(files: &ServerTlsFiles) -> Result<ServerTlsConfig, Error> {
    // Read here as well, so that a wrong file is named by its path.
    certificates(&files.cert_file)?;
    private_key(&files.key_file)?;
    certificates(&files.client_ca_file)?;
    let identity = Identity::from_pem(read(&files.cert_file)?, read(&files.key_file)?);
    Ok(ServerTlsConfig::new()
        .identity(identity)
        .client_ca_root(Certificate::from_pem(read(&files.client_ca_file)?))
        .client_auth_optional(false))
}

/// The client half towards an OpenAI-compatible server.
pub(super) fn http_config(upstream: &UpstreamConfig) -> Result<Arc<ClientConfig>, Error> {
    let ca_file = upstream.tls_ca_file.as_deref().ok_or_else(needs_ca)?;
    let mut roots = RootCertStore::empty();
    for certificate in certificates(ca_file)? {
        roots.add(certificate).map_err(|_| unusable(ca_file))?;
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(setup)?
        .with_root_certificates(roots);
    let config = match (&upstream.tls_cert_file, &upstream.tls_key_file) {
        (Some(cert_file), Some(key_file)) => builder
            .with_client_auth_cert(certificates(cert_file)?, private_key(key_file)?)
            .map_err(|_| unusable(cert_file))?,
        _ => builder.with_no_client_auth(),
    };
    Ok(Arc::new(config))
}

/// The client half towards another sidecar, which demands a certificate.
pub(super) fn sidecar_config(upstream: &UpstreamConfig) -> Result<ClientTlsConfig, Error> {
    let ca_file = upstream.tls_ca_file.as_deref().ok_or_else(needs_ca)?;
    let (Some(cert_file), Some(key_file)) = (&upstream.tls_cert_file, &upstream.tls_key_file)
    else {
        return Err(Error::route(
            "a sidecar over https needs \"tls_cert_file\" and \"tls_key_file\"",
        ));
    };
    certificates(ca_file)?;
    certificates(cert_file)?;
    private_key(key_file)?;
    Ok(ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(read(ca_file)?))
        .identity(Identity::from_pem(read(cert_file)?, read(key_file)?)))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let pem = read(path)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(unusable(path)),
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, Error> {
    PrivateKeyDer::from_pem_slice(&read(path)?).map_err(|_| unusable(path))
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|source| Error::ReadFile {
        path: path.to_owned(),
        source,
    })
}

fn needs_ca() -> Error {
    Error::route("an address with \"https:\" needs \"tls_ca_file\"")
}

fn unusable(path: &Path) -> Error {
    Error::route(format!("{path:?} is not a usable PEM file"))
}

fn setup(source: tokio_rustls::rustls::Error) -> Error {
    Error::Setup {
        part: "TLS",
        source: source.into(),
    }
}
