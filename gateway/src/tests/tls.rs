//! SIP over TLS, over real connections (RFC 3261 §26).

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use metrics_exporter_prometheus::PrometheusBuilder;
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};
use tandem_core::command::GatewayEvent;
use tandem_sip::{Carrier, Message, Request, Response, tls_port};
use tandem_wire::Bounds;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::harness::{FakeNode, Gateway, PATIENCE, QUIET, options, parse};
use super::tcp::{reported, respond, send};
use crate::SipTls;

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// An authority of the test's, and what it has signed.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// PEM.
#[derive(Clone)]
struct Identity {
    certificate: String,
    key: String,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    fn certify(&self, names: &[String]) -> Identity {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(names).unwrap();
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        Identity { certificate, key: key.serialize_pem() }
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap()).unwrap();
        roots
    }
}

impl Identity {
    fn der(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let certificate = CertificateDer::from_pem_slice(self.certificate.as_bytes()).unwrap();
        (vec![certificate], PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap())
    }

    fn write(&self, folder: &Path) {
        std::fs::write(folder.join("sip.pem"), &self.certificate).unwrap();
        std::fs::write(folder.join("sip.key"), &self.key).unwrap();
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

const BOTH: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13, &rustls::version::TLS12];

/// How a phone calls the gateway.
fn client(
    authority: &Authority,
    own: Option<&Identity>,
    versions: &[&'static SupportedProtocolVersion],
) -> Arc<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(authority.roots());
    Arc::new(match own.map(Identity::der) {
        Some((chain, key)) => builder.with_client_auth_cert(chain, key).unwrap(),
        None => builder.with_no_client_auth(),
    })
}

/// A gateway with a certificate of an authority that it trusts, too.
struct House {
    gateway: Gateway,
    node: FakeNode,
    authority: Authority,
    tls: SocketAddr,
}

impl House {
    async fn open() -> Self {
        Self::with_bounds(Bounds::default()).await
    }

    async fn with_bounds(bounds: Bounds) -> Self {
        let authority = Authority::new();
        let mut node = FakeNode::start("node-a", Some(1)).await;
        let data = tempfile::tempdir().unwrap();
        let mut options = options(&[&node], data.path());
        let vip = options.vip;
        authority.certify(&[vip.ip().to_string(), "localhost".into()]).write(data.path());
        let file = |name: &str| data.path().join(name);
        std::fs::write(file("roots.pem"), &authority.pem).unwrap();
        options.sip_tls = Some(SipTls {
            certificate: file("sip.pem"),
            key: file("sip.key"),
            roots: Some(file("roots.pem")),
        });
        let gateway = Gateway::start_within(options, data, bounds).await;
        assert!(matches!(node.next().await, (1, GatewayEvent::Login(_))));
        node.accept(1).await;
        let tls = SocketAddr::new(vip.ip(), tls_port(vip.port()));
        Self { gateway, node, authority, tls }
    }

    async fn phone(&self) -> Phone {
        self.phone_with(client(&self.authority, None, BOTH)).await.expect("TLS")
    }

    async fn phone_with(&self, config: Arc<ClientConfig>) -> std::io::Result<Phone> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(self.tls).await.unwrap();
        let source = stream.local_addr().unwrap();
        let name = ServerName::IpAddress(self.tls.ip().into());
        let stream = TlsConnector::from(config).connect(name, stream).await?;
        let serial = stream.get_ref().1.peer_certificates().unwrap()[0].to_vec();
        Ok(Phone { stream: Box::new(stream), listener, source, serial, read: Vec::new() })
    }
}

/// A phone with one connection, and a port that it listens at.
struct Phone {
    stream: Box<dyn Stream>,
    listener: TcpListener,
    source: SocketAddr,
    /// The certificate that the gateway has shown.
    serial: Vec<u8>,
    read: Vec<u8>,
}

impl Phone {
    fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    fn text(&self, method: &str, branch: &str, more: &str) -> String {
        let address = self.address();
        format!(
            "{method} sip:4003@demo SIP/2.0\r\nVia: SIP/2.0/TLS {address};branch=z9hG4bK{branch}\r\n\
             From: <sip:alice@demo>;tag=f{branch}\r\nTo: <sip:4003@demo>\r\n\
             Call-ID: call-{branch}\r\nCSeq: 1 {method}\r\nMax-Forwards: 70\r\n\
             Contact: <sips:alice@{address}>\r\n{more}Content-Length: 0\r\n\r\n"
        )
    }

    async fn send(&mut self, text: impl AsRef<[u8]>) {
        self.stream.write_all(text.as_ref()).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    async fn more(&mut self) -> usize {
        let read = self.stream.read_buf(&mut self.read);
        timeout(PATIENCE, read).await.expect("bytes").unwrap_or(0)
    }

    async fn next(&mut self) -> Message {
        loop {
            let end = self.read.windows(4).position(|four| four == b"\r\n\r\n");
            if let Some(head) = end.map(|end| end + 4) {
                let body = tandem_sip::body_length(&self.read[..head]).unwrap().unwrap();
                if self.read.len() >= head + body {
                    let bytes: Vec<u8> = self.read.drain(..head + body).collect();
                    return tandem_sip::parse(&bytes).expect("SIP");
                }
            }
            assert_ne!(self.more().await, 0, "the gateway has closed the connection");
        }
    }

    async fn response(&mut self) -> Response {
        match self.next().await {
            Message::Response(response) => response,
            Message::Request(request) => panic!("{request:?} instead of a response"),
        }
    }

    async fn request(&mut self) -> Request {
        match self.next().await {
            Message::Request(request) => request,
            Message::Response(response) => panic!("{response:?} instead of a request"),
        }
    }

    /// The gateway answers.
    async fn lives(&mut self, branch: &str) {
        let options = self.text("OPTIONS", branch, "");
        self.send(options).await;
        assert_eq!(self.response().await.status, 200);
    }

    /// The gateway opens a connection of its own to the phone, which shows this certificate.
    async fn accept(&mut self, own: &Identity) -> std::io::Result<()> {
        let accepted = timeout(PATIENCE, self.listener.accept()).await.expect("a connection");
        let (chain, key) = own.der();
        let config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(BOTH)
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let accepting = TlsAcceptor::from(Arc::new(config)).accept(accepted.unwrap().0);
        self.stream = Box::new(timeout(PATIENCE, accepting).await.expect("a handshake")?);
        self.read.clear();
        Ok(())
    }
}

/// An INVITE of ours to the phone's contact, as the core makes it.
fn our_invite(house: &House, contact: &str, branch: &str) -> Request {
    let tls = house.tls;
    parse(&format!(
        "INVITE {contact} SIP/2.0\r\nVia: SIP/2.0/TLS {tls};branch=z9hG4bK{branch};rport\r\n\
         From: <sip:4001@{0}>;tag=ours\r\nTo: <sip:1001@{0}>\r\nCall-ID: out-{branch}\r\n\
         CSeq: 1 INVITE\r\nContact: <sips:tandem@{tls}>\r\nMax-Forwards: 70\r\n\r\n",
        tls.ip()
    ))
}

/// What the cluster knows of the phone's connection, once it has called.
async fn carrier_of(house: &mut House, phone: &mut Phone) -> Carrier {
    let invite = phone.text("INVITE", "carrier", "");
    phone.send(invite).await;
    house.node.invite().await.carrier
}

#[tokio::test]
async fn call_is_made_and_answered_over_tls_of_either_version() {
    let mut house = House::open().await;
    for (version, branch) in [(&rustls::version::TLS12, "a"), (&rustls::version::TLS13, "b")] {
        let config = client(&house.authority, None, &[version]);
        let mut phone = house.phone_with(config).await.unwrap();
        let text = phone.text("INVITE", branch, "");
        phone.send(text).await;
        let invite = house.node.invite().await;
        assert_eq!((invite.source, invite.names.len()), (phone.source, 0));
        assert!(matches!(invite.carrier, Carrier::Tls { connection: Some(_) }));
        for status in [100, 200] {
            respond(&mut house.node, &invite, status).await;
            assert_eq!(phone.response().await.status, status);
        }
        // A request of ours goes over the phone's own connection.
        let ours = our_invite(&house, &format!("sips:1001@{}", phone.address()), branch);
        send(&mut house.node, &ours, invite.source, invite.carrier).await;
        assert_eq!(phone.request().await, ours);
        phone.send(ours.respond(180, None, Some("theirs")).to_bytes()).await;
        assert_eq!(reported(&mut house.node).await.status, 180);
    }
}

#[tokio::test]
async fn plain_text_and_old_versions_are_refused_and_cost_nothing_else() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let _local = metrics::set_default_local_recorder(&recorder);
    let house = House::open().await;
    let mut live = house.phone().await;
    live.lives("a").await;
    // A ClientHello of TLS 1.1, with one cipher of its day.
    let mut hello = vec![22, 3, 1, 0, 45, 1, 0, 0, 41, 3, 2];
    hello.extend([7; 32]);
    hello.extend([0, 0, 2, 0x00, 0x2f, 1, 0]);
    let plain = live.text("OPTIONS", "b", "").into_bytes();
    for bytes in [plain, vec![0x16, 3, 1, 0xff], vec![0; 4_000], hello] {
        let mut stream = TcpStream::connect(house.tls).await.unwrap();
        stream.write_all(&bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        // An alert at most, and then the end.
        let _ = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("an end");
        assert!(answer.is_empty() || answer[0] == 21, "{answer:?}");
        live.lives("c").await;
    }
    let text = handle.render();
    let count = |result: &str| {
        let name = "tandem_sip_tls_handshakes_total";
        let line = format!("{name}{{side=\"peer\",result=\"{result}\"}} ");
        text.lines().find_map(|it| it.strip_prefix(&line)).map(str::to_owned)
    };
    assert_eq!(count("ok").as_deref(), Some("1"), "{text}");
    assert_eq!(count("incompatible").as_deref(), Some("1"), "{text}");
    assert_eq!(count("junk").as_deref(), Some("2"), "{text}");
    assert!(text.contains("tandem_sip_connections 1\n"), "{text}");
}

#[tokio::test]
async fn half_open_handshakes_are_bounded_and_end_by_themselves() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let _local = metrics::set_default_local_recorder(&recorder);
    let bounds = Bounds {
        handshakes_per_source_max: 10,
        handshake: Duration::from_secs(2),
        ..Bounds::default()
    };
    let house = House::with_bounds(bounds).await;
    let mut live = house.phone().await;
    let mut flood = Vec::new();
    for _ in 0..40 {
        flood.push(TcpStream::connect(house.tls).await.unwrap());
    }
    live.lives("a").await;
    for stream in &mut flood {
        let read = stream.read_u8();
        assert!(timeout(PATIENCE, read).await.expect("an end").is_err());
    }
    // There is room again, and what lives was never touched.
    house.phone().await.lives("b").await;
    live.lives("c").await;
    let text = handle.render();
    let refused = "connections_refused_total{reason=\"handshakes_of_source\"} 30";
    assert!(text.contains(refused), "{text}");
    assert!(text.contains("handshakes_total{side=\"peer\",result=\"slow\"} 10"), "{text}");
}

#[tokio::test]
async fn new_connection_is_opened_by_tls_to_a_server_that_proves_its_address() {
    let mut house = House::open().await;
    let mut phone = house.phone().await;
    let carrier = carrier_of(&mut house, &mut phone).await;
    let source = phone.source;
    let invite = our_invite(&house, &format!("sips:1001@{}", phone.address()), "a");
    send(&mut house.node, &invite, source, carrier).await;
    assert_eq!(phone.request().await, invite);
    phone.stream.shutdown().await.unwrap();
    let own = house.authority.certify(&["127.0.0.1".into()]);
    phone.accept(&own).await.unwrap();
    assert_eq!(phone.request().await, invite);
    phone.send(invite.respond(486, None, Some("theirs")).to_bytes()).await;
    assert_eq!(reported(&mut house.node).await.status, 486);
    // The next one takes the same connection.
    assert_eq!(phone.request().await.method, tandem_sip::Method::Ack);
    let next = our_invite(&house, &format!("sips:1001@{}", phone.address()), "b");
    send(&mut house.node, &next, source, Carrier::TLS).await;
    assert_eq!(phone.request().await, next);
}

#[tokio::test]
async fn server_that_proves_nothing_hears_nothing() {
    let mut house = House::open().await;
    let mut phone = house.phone().await;
    let source = phone.source;
    let stranger = Authority::new().certify(&["127.0.0.1".into()]);
    let elsewhere = house.authority.certify(&["192.0.2.1".into(), "example.net".into()]);
    for (own, branch) in [(stranger, "a"), (elsewhere, "b")] {
        let invite = our_invite(&house, &format!("sips:1001@{}", phone.address()), branch);
        send(&mut house.node, &invite, source, Carrier::TLS).await;
        // The handshake may end on our side first: then the alert is read.
        if phone.accept(&own).await.is_ok() {
            assert_eq!(phone.more().await, 0);
        }
        let GatewayEvent::ClientTimeout { branch: failed } = house.node.event().await else {
            panic!("no failure")
        };
        assert_eq!(failed, format!("z9hG4bK{branch}"));
    }
    // One that is known by a name must prove that.
    let invite = our_invite(&house, &format!("sips:1001@sbc.test:{}", phone.address().port()), "c");
    send(&mut house.node, &invite, source, Carrier::TLS).await;
    phone.accept(&house.authority.certify(&["sbc.test".into()])).await.unwrap();
    assert_eq!(phone.request().await, invite);
}

#[tokio::test]
async fn contact_that_is_reached_in_the_clear_is_not_reached_at_all_from_tls() {
    let mut house = House::open().await;
    let mut phone = house.phone().await;
    let carrier = carrier_of(&mut house, &mut phone).await;
    let contact = format!("sip:1001@{};transport=tcp", phone.address());
    let invite = our_invite(&house, &contact, "a");
    send(&mut house.node, &invite, phone.source, carrier).await;
    assert_eq!(phone.request().await, invite);
    phone.stream.shutdown().await.unwrap();
    let GatewayEvent::ClientTimeout { .. } = house.node.event().await else { panic!("no failure") };
    assert!(timeout(QUIET, phone.listener.accept()).await.is_err());
}

#[tokio::test]
async fn client_is_called_what_its_certificate_proves() {
    let mut house = House::open().await;
    let names = ["sbc.example.net".to_owned(), "Other.example.net".to_owned()];
    let trusted = house.authority.certify(&names);
    // A phone has a certificate of its maker: it is served, and has proven nothing.
    let foreign = Authority::new().certify(&names);
    for (own, expected, branch) in [
        (trusted, vec!["sbc.example.net".to_owned(), "other.example.net".to_owned()], "a"),
        (foreign, vec![], "b"),
    ] {
        let config = client(&house.authority, Some(&own), BOTH);
        let mut phone = house.phone_with(config).await.unwrap();
        let text = phone.text("INVITE", branch, "");
        phone.send(text).await;
        assert_eq!(house.node.invite().await.names, expected);
    }
}

#[tokio::test]
async fn certificate_is_read_anew_while_connections_live() {
    let house = House::open().await;
    let mut first = house.phone().await;
    let folder = house.gateway.data.path().to_owned();
    let names = [house.tls.ip().to_string()];
    // What is of no use changes nothing: a key of another certificate, then no certificate at all.
    let renewed = house.authority.certify(&names);
    let other = house.authority.certify(&names);
    Identity { key: other.key, ..renewed.clone() }.write(&folder);
    house.gateway.reload.notify_one();
    sleep(Duration::from_millis(200)).await;
    assert_eq!(house.phone().await.serial, first.serial);
    std::fs::write(folder.join("sip.pem"), "no certificate").unwrap();
    sleep(Duration::from_millis(2 * tandem_wire::limits::CERTIFICATE_LOOK_MS + 500)).await;
    assert_eq!(house.phone().await.serial, first.serial);
    // Nobody is told of the next change: it is seen.
    renewed.write(&folder);
    let (expected, _) = renewed.der();
    timeout(PATIENCE, async {
        while house.phone().await.serial != expected[0].to_vec() {
            sleep(Duration::from_millis(50)).await;
        }
    })
    .await
    .expect("the new certificate is shown");
    // Asked to, it is read at once.
    let asked = house.authority.certify(&names);
    asked.write(&folder);
    house.gateway.reload.notify_one();
    let (expected, _) = asked.der();
    timeout(PATIENCE, async {
        while house.phone().await.serial != expected[0].to_vec() {
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("the certificate is read when asked");
    first.lives("a").await;
}
