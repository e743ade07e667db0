//! The door for other machines: TCP, with mutual TLS and no other way.

use std::time::Duration;

use tonic::service::Routes;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Server, ServerTlsConfig};

use crate::config::Config;
use crate::error::Error;
use crate::router::tls::server_config;

/// Longest time a client may take to show its certificate.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a silent connection is probed.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(30);

/// A bound TCP port that lets in clients with a certificate of ours.
pub struct RemoteListener {
    incoming: TcpIncoming,
    tls: ServerTlsConfig,
}

impl RemoteListener {
    /// Binds the address of the configuration; None when it names none. Without the files to check
    /// clients with there is no such door.
    pub fn bind(config: &Config) -> Result<Option<Self>, Error> {
        let Some(address) = config.listen else {
            return Ok(None);
        };
        let files = config.server_tls().ok_or(Error::ListenWithoutTls)?;
        let tls = server_config(&files)?;
        let incoming = TcpIncoming::bind(address)
            .map_err(|source| Error::Listen { address, source })?
            .with_nodelay(Some(true));
        tracing::info!(%address, "serving other machines with mutual TLS");
        Ok(Some(Self {
            incoming,
            tls: tls.timeout(HANDSHAKE_TIMEOUT),
        }))
    }

    /// Serves until `stopped` is ready.
    pub async fn serve(
        self,
        routes: Routes,
        stopped: impl Future<Output = ()>,
    ) -> Result<(), Error> {
        Server::builder()
            .tls_config(self.tls)?
            .http2_keepalive_interval(Some(KEEP_ALIVE_INTERVAL))
            .add_routes(routes)
            .serve_with_incoming_shutdown(self.incoming, stopped)
            .await?;
        Ok(())
    }
}
