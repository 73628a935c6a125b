use std::path::Path;

use tempfile::TempDir;
use tokio::net::TcpSocket;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::ring};

use super::*;
use crate::Tls;

struct Files {
    folder: TempDir,
    certificate: CertificateDer<'static>,
}

impl Files {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
        write("cert.pem", made.cert.pem().as_bytes());
        write("key.pem", made.signing_key.serialize_pem().as_bytes());
        write("cert.der", made.cert.der());
        write("key.der", &made.signing_key.serialize_der());
        Self { folder, certificate: made.cert.der().clone() }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }
}

/// Connects from `source` and shakes hands.
async fn tls_from(
    source: &str,
    address: std::net::SocketAddr,
    root: CertificateDer<'static>,
) -> impl AsyncRead + AsyncWrite + Unpin {
    let mut roots = RootCertStore::empty();
    roots.add(root).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{source}:0").parse().unwrap()).unwrap();
    let tcp = socket.connect(address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, tcp).await.unwrap()
}

async fn exchange_over_tls(certificate: &Path, key: &Path, root: CertificateDer<'static>) -> Stage {
    let served = Served::start(Tls::bind("127.0.0.1:0", certificate, key).await.unwrap(), quick()).await;
    served.stage.queue_channel().await;
    let address = served.listener.local_addr().unwrap();
    // A peer that never begins its handshake comes first.
    let silent = TcpStream::connect(address).await.unwrap();
    let mut payer = tls_from("127.0.0.1", address, root).await;
    assert_eq!(send(&mut payer, &honest("a", 1)).await.unwrap().status, 200);
    drop(silent);
    served.stop().await
}

#[tokio::test]
async fn a_payment_over_tls_opens_a_channel() {
    for kind in ["pem", "der"] {
        let files = Files::new();
        let (certificate, key) = (files.path(&format!("cert.{kind}")), files.path(&format!("key.{kind}")));
        let stage = exchange_over_tls(&certificate, &key, files.certificate.clone()).await;
        assert!(stage.world.acts().contains(&"fund".to_owned()), "{kind}");
    }
}

#[tokio::test]
async fn one_address_with_many_silent_connections_shuts_no_other_out() {
    let files = Files::new();
    let tls = Tls::bind("127.0.0.1:0", &files.path("cert.pem"), &files.path("key.pem")).await.unwrap();
    let served = Served::start(tls, quick()).await;
    let address = served.listener.local_addr().unwrap();
    let mut silent = Vec::new();
    for _ in 0..300 {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    let payer = tls_from("127.0.0.2", address, files.certificate.clone());
    let mut payer = timeout(Duration::from_secs(5), payer).await.expect("a handshake at once");
    assert_eq!(send(&mut payer, &honest("a", 1)).await.unwrap().status, 200);
    drop(silent);
    served.stop().await;
}

#[tokio::test]
async fn a_certificate_that_cannot_be_used_is_named() {
    let files = Files::new();
    let (certificate, key) = (files.path("cert.pem"), files.path("key.pem"));
    let swapped = Tls::bind("127.0.0.1:0", &certificate, &certificate).await.unwrap_err();
    assert!(swapped.to_string().contains("cert.pem"), "{swapped}");
    let foreign = Files::new().path("key.pem");
    Tls::bind("127.0.0.1:0", &certificate, &foreign).await.unwrap_err();
    let other = Files::new();
    let mismatch = Tls::bind("127.0.0.1:0", &certificate, &other.path("key.pem")).await.unwrap_err();
    assert_eq!(mismatch.kind(), io::ErrorKind::InvalidData);
    Tls::bind("127.0.0.1:0", &certificate, &key).await.unwrap();
}
