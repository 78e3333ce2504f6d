//! Which gateways are logged in to this node, and the way down to each.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tandem_core::ids::GatewayId;
use tandem_gateway::link::pb;
use tokio::sync::{Notify, mpsc};
use tonic::Status;

/// Messages that may wait for one gateway. A gateway that is this far behind is cut off: it logs
/// in again, and the leader gives it all that it has not done.
pub const DOWN_MAX: usize = 8_192;

/// One stream of one gateway.
#[derive(Clone)]
pub struct Session {
    pub gateway: GatewayId,
    pub incarnation: u64,
    serial: u64,
    down: mpsc::Sender<Result<pb::Down, Status>>,
    cut: Arc<Notify>,
}

impl Session {
    /// False where the gateway does not keep up, or is gone.
    pub fn send(&self, body: pb::down::Body) -> bool {
        let sent = self.down.try_send(Ok(pb::Down { body: Some(body) })).is_ok();
        if !sent {
            self.cut.notify_one();
        }
        sent
    }

    /// Completes when the session must end.
    pub async fn cut(&self) {
        self.cut.notified().await;
    }
}

#[derive(Default)]
pub struct Sessions {
    by_gateway: Mutex<BTreeMap<GatewayId, Session>>,
    serial: AtomicU64,
}

impl Sessions {
    /// Takes a gateway in. An older stream of the same gateway is cut.
    pub fn open(
        &self,
        hello: &pb::Hello,
        down: mpsc::Sender<Result<pb::Down, Status>>,
    ) -> Option<Session> {
        let session = Session {
            gateway: GatewayId::from(hello.gateway.clone()),
            incarnation: hello.incarnation,
            serial: self.serial.fetch_add(1, Ordering::Relaxed),
            down,
            cut: Arc::default(),
        };
        let mut sessions = self.by_gateway.lock();
        if let Some(older) = sessions.get(&session.gateway) {
            // A stream of a life that is over, late on the way.
            if older.incarnation > session.incarnation {
                return None;
            }
            older.cut.notify_one();
        }
        sessions.insert(session.gateway.clone(), session.clone());
        Some(session)
    }

    pub fn close(&self, session: &Session) {
        let mut sessions = self.by_gateway.lock();
        if sessions.get(&session.gateway).is_some_and(|open| open.serial == session.serial) {
            sessions.remove(&session.gateway);
        }
    }

    /// Sends one message; false where the gateway is not logged in here or was cut off for not
    /// keeping up.
    pub fn send(&self, gateway: &GatewayId, body: pb::down::Body) -> bool {
        let session = self.by_gateway.lock().get(gateway).cloned();
        session.is_some_and(|session| self.send_on(&session, body))
    }

    /// The same, unless the gateway has started anew since.
    pub fn send_to_life(
        &self,
        gateway: &GatewayId,
        incarnation: u64,
        body: pb::down::Body,
    ) -> bool {
        let session = self.by_gateway.lock().get(gateway).cloned();
        session
            .filter(|session| session.incarnation == incarnation)
            .is_some_and(|session| self.send_on(&session, body))
    }

    fn send_on(&self, session: &Session, body: pb::down::Body) -> bool {
        if session.send(body) {
            return true;
        }
        tracing::warn!(gateway = %session.gateway, "does not keep up: its session is cut");
        metrics::counter!("tandem_link_sessions_cut_total").increment(1);
        self.close(session);
        false
    }

    #[cfg(test)]
    pub fn gateways(&self) -> Vec<Session> {
        self.by_gateway.lock().values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(incarnation: u64) -> pb::Hello {
        pb::Hello {
            gateway: "gateway-a".into(),
            incarnation,
            version: "0.1.0".into(),
            vip: "127.0.0.10:5060".into(),
        }
    }

    fn trim() -> pb::down::Body {
        pb::down::Body::Leading(pb::Leading { shard: 0, term: 1, leading: true })
    }

    #[tokio::test]
    async fn session_is_cut_when_its_gateway_does_not_keep_up() {
        let sessions = Sessions::default();
        let (down, _up) = mpsc::channel(1);
        let session = sessions.open(&hello(1), down).unwrap();
        assert!(sessions.send(&session.gateway, trim()));
        assert!(!sessions.send(&session.gateway, trim()));
        session.cut().await;
        assert!(sessions.gateways().is_empty());
    }

    #[tokio::test]
    async fn session_is_cut_when_its_gateway_logs_in_again() {
        let sessions = Sessions::default();
        let (down, _up) = mpsc::channel(1);
        let first = sessions.open(&hello(1), down.clone()).unwrap();
        let second = sessions.open(&hello(2), down.clone()).unwrap();
        first.cut().await;
        // What is said to the earlier life does not reach the later one.
        assert!(!sessions.send_to_life(&second.gateway, 1, trim()));
        assert!(sessions.send_to_life(&second.gateway, 2, trim()));
        sessions.close(&first);
        assert_eq!(sessions.gateways().len(), 1);
        assert!(sessions.open(&hello(1), down).is_none());
        sessions.close(&second);
        assert!(sessions.gateways().is_empty());
    }
}
