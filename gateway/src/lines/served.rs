//! A line of this process from the moment in which it is granted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tandem_lease::Fence;
use tandem_wire::Life;
use tokio::time::Instant;

use crate::limits;
use crate::line::{Line, Shared, Spec};
use crate::options::Error;

pub enum Served {
    Starting { life: u64, fence: Arc<Fence> },
    Serving(Line),
}

impl Served {
    pub fn life(&self) -> u64 {
        match self {
            Self::Starting { life, .. } => *life,
            Self::Serving(line) => line.life,
        }
    }

    fn fence(&self) -> &Fence {
        match self {
            Self::Starting { fence, .. } => fence,
            Self::Serving(line) => line.fence(),
        }
    }

    /// It was granted again to who asked at that moment.
    pub fn renew(&self, asked_ms: u64) {
        self.fence().renew(asked_ms);
        self.tell();
    }

    /// As [`Fence::keep`].
    pub fn keep(&self, asked_ms: u64, now_ms: u64) {
        self.fence().keep(asked_ms, now_ms);
        self.tell();
    }

    fn tell(&self) {
        if let Self::Serving(line) = self {
            line.renewed();
        }
    }
}

/// Brings its address here, and binds it: that one may be in use for a moment more.
pub async fn start(shared: &Shared, spec: &Spec, life: Life) -> Result<Line, Error> {
    let address = shared.addresses.take(&spec.name, spec.vip.ip()).await?;
    let give_up = Instant::now() + Duration::from_millis(limits::SERVE_MS_MAX);
    loop {
        let error = match Line::start(shared, spec, life.clone(), Arc::clone(&address)) {
            Ok(line) => return Ok(line),
            Err(error) => error,
        };
        if !life.follows || life.fence.has_ended() || Instant::now() >= give_up {
            address.give_up().await;
            return Err(error);
        }
        tokio::time::sleep(Duration::from_millis(limits::SERVE_AGAIN_MS)).await;
    }
}

/// Which of them fails, and of what.
pub async fn failed(served: &mut BTreeMap<String, Served>) -> (String, Error) {
    let lines = served.iter_mut().filter_map(|(name, served)| match served {
        Served::Serving(line) => Some(Box::pin(async move { (name.clone(), line.failed().await) })),
        Served::Starting { .. } => None,
    });
    let lines: Vec<_> = lines.collect();
    if lines.is_empty() {
        return std::future::pending().await;
    }
    futures::future::select_all(lines).await.0
}
