use parking_lot::Mutex;
use pb::link_client::LinkClient;
use tandem_pki::{CLUSTER_NAME, Texts};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Certificate, Identity};

use super::*;
use crate::server::lines::Sees;
use crate::server::solo::SoloMeta;

struct Fake {
    leading: watch::Sender<Vec<pb::Leading>>,
    routing: watch::Sender<Vec<pb::Routing>>,
    events: Mutex<Vec<(String, u64)>>,
}

/// Of whom gateways are told.
fn node_b() -> pb::Nodes {
    let at = pb::NodeAt { name: "node-b".to_owned(), address: "127.0.0.1:7202".to_owned() };
    pb::Nodes { nodes: vec![at] }
}

#[async_trait]
impl Node for Fake {
    fn name(&self) -> &str {
        "node-a"
    }

    fn leading(&self) -> watch::Receiver<Vec<pb::Leading>> {
        self.leading.subscribe()
    }

    fn routing(&self) -> watch::Receiver<Vec<pb::Routing>> {
        self.routing.subscribe()
    }

    fn nodes(&self) -> watch::Receiver<pb::Nodes> {
        watch::channel(node_b()).1
    }

    fn on_session(&self, _session: &Session) {}

    fn on_event(&self, session: &Session, event: pb::Event) {
        self.events.lock().push((session.gateway.to_string(), event.sequence));
        let accepted = pb::Accepted { shard: 0, sequence: event.sequence, ..Default::default() };
        session.send(pb::down::Body::Accepted(accepted));
    }

    fn on_done(&self, _session: &Session, _done: pb::Done) {}

    async fn query(
        &self,
        kind: &str,
        _params: BTreeMap<String, String>,
    ) -> Result<Option<Vec<u8>>, Status> {
        Ok((kind == "calls").then(|| b"{}".to_vec()))
    }

    async fn execute(&self, _request: pb::ExecuteRequest) -> Result<pb::ExecuteReply, Status> {
        Ok(pb::ExecuteReply::default())
    }
}

/// A certificate that signs itself is authority, server and client at once.
fn identity() -> Texts {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec![CLUSTER_NAME.to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap().pem();
    Texts { ca: certificate.clone(), certificate, key: key.serialize_pem() }
}

fn up(body: pb::up::Body) -> pb::Up {
    pb::Up { body: Some(body) }
}

#[tokio::test]
async fn link_tells_who_leads_and_takes_events_when_gateway_logs_in() {
    // Another test of this process may have installed it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let leading = pb::Leading { shard: 0, term: 3, leading: true };
    let fake = Arc::new(Fake {
        leading: watch::Sender::new(vec![leading]),
        routing: watch::Sender::new(Vec::new()),
        events: Mutex::default(),
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let identity = identity();
    let node: Arc<dyn Node> = fake.clone();
    let meta = Arc::new(SoloMeta::default());
    let sees = Sees {
        deaths: watch::channel(BTreeMap::new()).1,
        has_calls: Box::new(|_| false),
        is_frozen: Box::new(|| false),
        drained: watch::channel(std::collections::BTreeSet::new()).1,
    };
    let lines = Lines::start(meta, Vec::new(), 1, sees);
    let server = LinkServer { node, sessions: Arc::default(), lines };
    let tls = tonic::transport::ClientTlsConfig::new()
        .domain_name(CLUSTER_NAME)
        .identity(Identity::from_pem(&identity.certificate, &identity.key))
        .ca_certificate(Certificate::from_pem(&identity.ca));
    let certificates = Live::of(&identity).unwrap();
    tokio::spawn(listen(listener, server, certificates));

    let channel = tonic::transport::Endpoint::from_shared(format!("https://{address}"))
        .unwrap()
        .tls_config(tls)
        .unwrap()
        .connect()
        .await
        .unwrap();
    let mut client = LinkClient::new(channel);
    let (say, said) = mpsc::channel(8);
    let hello = pb::Hello { gateway: "gateway-a".into(), incarnation: 1, ..Default::default() };
    say.send(up(pb::up::Body::Hello(hello))).await.unwrap();
    let mut down = client.session(ReceiverStream::new(said)).await.unwrap().into_inner();
    let mut next = async || down.message().await.unwrap().unwrap().body.unwrap();

    let pb::down::Body::Welcome(welcome) = next().await else { panic!("no welcome") };
    assert_eq!(welcome.node, "node-a");
    assert_eq!(next().await, pb::down::Body::Leading(leading));

    let event = pb::Event { shard: 0, sequence: 7, event: Vec::new() };
    say.send(up(pb::up::Body::Event(event))).await.unwrap();
    let pb::down::Body::Accepted(accepted) = next().await else { panic!("not accepted") };
    assert_eq!(accepted.sequence, 7);
    assert_eq!(*fake.events.lock(), [("gateway-a".to_owned(), 7)]);

    let follows = pb::Leading { leading: false, ..leading };
    fake.leading.send_replace(vec![follows]);
    assert_eq!(next().await, pb::down::Body::Leading(follows));
}
