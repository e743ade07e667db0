//! PgBouncer before a cluster: it pools transactions, asks for a password, and takes TLS alone.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};

use crate::cluster::{Cluster, DATABASE};
use crate::measure::wait_until;
use crate::process;

const START_LIMIT: Duration = Duration::from_secs(30);
/// The name in its certificate.
pub const HOST: &str = "localhost";
pub const USER: &str = "postgres";
pub const PASSWORD: &str = "known to tests alone";
/// Another name of [`DATABASE`], with one server connection for all its clients.
pub const SINGLE_DATABASE: &str = "salesai_single";

/// A running PgBouncer; dropping it stops it and deletes its files.
pub struct PgBouncer {
    dir: PathBuf,
    port: u16,
    server: Child,
}

impl PgBouncer {
    /// Starts `program` before `cluster` and waits until it takes connections.
    pub fn start(program: &Path, cluster: &Cluster) -> Self {
        let dir = process::new_dir("b");
        let port = free_port();
        write_certificates(&dir);
        let users = format!("\"{USER}\" \"{PASSWORD}\"\n");
        process::write_file(&dir.join("users.txt"), &users, 0o600);
        let settings = settings(&dir, port, cluster);
        process::write_file(&dir.join("pgbouncer.ini"), &settings, 0o600);
        let log = File::create(dir.join("log")).expect("create the pooler's log");
        let server = process::command(program, &dir)
            .arg("pgbouncer.ini")
            .stdout(log.try_clone().expect("share the log"))
            .stderr(log)
            .spawn()
            .expect("start pgbouncer");
        let mut pooler = Self { dir, port, server };
        pooler.wait_until_up();
        pooler
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The certificate of who signed its own.
    pub fn authority(&self) -> PathBuf {
        self.dir.join("authority.pem")
    }

    /// The certificate of somebody else.
    pub fn other_authority(&self) -> PathBuf {
        self.dir.join("other_authority.pem")
    }

    fn wait_until_up(&mut self) {
        wait_until("PgBouncer takes connections", START_LIMIT, || {
            let ended = self.server.try_wait().expect("look after pgbouncer");
            assert!(ended.is_none(), "PgBouncer ended: {}", self.log());
            TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_ok()
        });
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).expect("read the pooler's log")
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn settings(dir: &Path, port: u16, cluster: &Cluster) -> String {
    format!(
        "[databases]
{DATABASE} = host={host} dbname={DATABASE}
{SINGLE_DATABASE} = host={host} dbname={DATABASE} pool_size=1

[pgbouncer]
listen_addr = {address}
listen_port = {port}
unix_socket_dir =
pool_mode = transaction
auth_type = scram-sha-256
auth_file = {dir}/users.txt
client_tls_sslmode = require
client_tls_cert_file = {dir}/server.pem
client_tls_key_file = {dir}/server.key
",
        host = cluster.dir().display(),
        address = Ipv4Addr::LOCALHOST,
        dir = dir.display(),
    )
}

/// A port that nobody listens on now.
fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("find a free port");
    let address = listener
        .local_addr()
        .expect("a bound socket has an address");
    address.port()
}

/// Two authorities, and a server's certificate that the first has signed.
fn write_certificates(dir: &Path) {
    let ours = authority("authority");
    let theirs = authority("other authority");
    let key = KeyPair::generate().expect("make a key");
    let mut params = CertificateParams::new([HOST.to_owned()]).expect("a host name");
    params.distinguished_name.push(DnType::CommonName, HOST);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    // Python from 3.13 on asks for it.
    params.use_authority_key_identifier_extension = true;
    let certificate = params.signed_by(&key, &ours).expect("sign a certificate");
    for (file, content) in [
        ("authority.pem", ours.pem()),
        ("other_authority.pem", theirs.pem()),
        ("server.pem", certificate.pem()),
        ("server.key", key.serialize_pem()),
    ] {
        process::write_file(&dir.join(file), &content, 0o600);
    }
}

fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate().expect("make a key");
    CertifiedIssuer::self_signed(params, key).expect("sign a certificate")
}
