//! The addresses of a process's lines, whatever their way.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tandem_lease::{Fence, clock};
use tokio::sync::{Mutex, Notify};

use crate::error::Error;
use crate::hook::{Action, Hook};
use crate::interface::Interface;
use crate::keeping::{Due, Keeping};
use crate::neighbours::Neighbours;
use crate::{Way, limits};

/// One for a process.
pub struct Addresses {
    mover: Mover,
    slots: BTreeMap<IpAddr, Arc<Slot>>,
}

enum Mover {
    AsIs,
    Interface(Interface),
    Hook(Hook),
}

/// One address. What is done about it is done one after the other.
#[derive(Default)]
struct Slot {
    /// Whether it is here, or may be in part.
    here: Mutex<bool>,
    /// Grows each time that it is taken for a life of its line: what an earlier life still wants counts no more.
    takes: AtomicU64,
}

/// The address of a line that this process serves.
pub struct Held {
    addresses: Arc<Addresses>,
    slot: Arc<Slot>,
    take: u64,
    line: String,
    address: IpAddr,
    renewed: Notify,
}

impl Addresses {
    /// `all`: of every line that this process may serve.
    ///
    /// # Errors
    /// Where a thread can't be started.
    pub fn new(way: &Way, all: impl IntoIterator<Item = IpAddr>) -> io::Result<Arc<Self>> {
        let mover = match way {
            Way::AsIs => Mover::AsIs,
            Way::Interface { name, prefix } => Mover::Interface(Interface::start(name, *prefix)?),
            Way::Hook(hook) => Mover::Hook(hook.clone()),
        };
        let slots = all.into_iter().map(|address| (address, Arc::default())).collect();
        Ok(Arc::new(Self { mover, slots }))
    }

    /// Call first: the process holds nothing yet, so what an earlier life has left on the interface is taken away.
    pub async fn clear(&self) {
        let Mover::Interface(interface) = &self.mover else { return };
        match interface.clear(self.slots.keys().copied().collect()).await {
            Ok(left) if left.is_empty() => {}
            Ok(left) => tracing::error!(
                interface = interface.name,
                addresses = ?left,
                "TD0354 the address of a line stands on this host for good: it answers for it whoever serves the line"
            ),
            Err(error) => tracing::error!(
                %error,
                "TD0351 the address of a line can't be taken away: this host may go on answering for it"
            ),
        }
    }

    /// For a line whose lease is held.
    ///
    /// # Errors
    /// Why it can't be brought here. What was begun of it is undone.
    pub async fn take(self: &Arc<Self>, line: &str, address: IpAddr) -> Result<Arc<Held>, Error> {
        let slot = self.slots.get(&address).cloned().unwrap_or_default();
        let take = slot.takes.fetch_add(1, Ordering::AcqRel) + 1;
        let (addresses, line) = (Arc::clone(self), line.to_owned());
        let held = Held { addresses, slot, take, line, address, renewed: Notify::new() };
        let held = Arc::new(held);
        if let Err(error) = held.bring().await {
            // In the meantime another process may have the line: it need not wait for this.
            let held = Arc::clone(&held);
            tokio::spawn(async move { held.undo().await });
            return Err(error);
        }
        Ok(held)
    }
}

impl Held {
    /// Brings it here. For the life that has it no more, nothing.
    async fn bring(&self) -> Result<(), Error> {
        let mut here = self.slot.here.lock().await;
        if !self.counts() {
            return Ok(());
        }
        // Of what fails, or is given up midway, nobody knows how far it has come.
        *here = true;
        let brought = match &self.addresses.mover {
            Mover::AsIs => Ok(()),
            Mover::Interface(interface) => interface.put(self.address).await,
            Mover::Hook(hook) => hook.run(Action::Take, &self.line, self.address).await,
        };
        brought.inspect_err(|_| {
            metrics::counter!("tandem_line_address_failures_total", "action" => "take")
                .increment(1);
        })
    }

    /// Takes it away from this host, unless a later life of the line has it.
    pub async fn give_up(&self) {
        if let Err(error) = self.take_away().await {
            metrics::counter!("tandem_line_address_failures_total", "action" => "drop")
                .increment(1);
            tracing::error!(
                line = self.line,
                address = %self.address,
                %error,
                "TD0351 the address of a line can't be taken away: this host may go on answering for it"
            );
        }
    }

    /// The same where it may never have come.
    async fn undo(&self) {
        if let Err(error) = self.take_away().await {
            tracing::info!(line = self.line, address = %self.address, %error, "was not here");
        }
    }

    async fn take_away(&self) -> Result<(), Error> {
        let mut here = self.slot.here.lock().await;
        if !self.counts() || !*here {
            return Ok(());
        }
        let away = match &self.addresses.mover {
            Mover::AsIs => Ok(()),
            Mover::Interface(interface) => interface.take_away(self.address).await,
            Mover::Hook(hook) => hook.run(Action::Drop, &self.line, self.address).await,
        };
        // What has failed is not tried again: on an interface it ends by itself, and a hook has said no.
        *here = false;
        away
    }

    /// Whether there is anything to keep.
    pub fn is_moved(&self) -> bool {
        !matches!(self.addresses.mover, Mover::AsIs)
    }

    fn counts(&self) -> bool {
        self.slot.takes.load(Ordering::Acquire) == self.take
    }

    /// The lease was renewed.
    pub fn renewed(&self) {
        self.renewed.notify_one();
    }

    /// Keeps the address here while the lease is held, and away while it is not. Neighbours are told first of all.
    ///
    /// # Errors
    /// Only: where the address can't be brought back, or renewed.
    pub async fn keep(&self, fence: &Fence) -> Error {
        let mut keeping = Keeping::taken_at(clock::boot_ms());
        let mut neighbours = self.neighbours();
        loop {
            if fence.has_ended() {
                // Whoever ends the line gives its address up.
                return std::future::pending().await;
            }
            let now = clock::boot_ms();
            match keeping.next(now, fence.until_ms()) {
                Due::Drop => {
                    tracing::warn!(
                        line = self.line,
                        address = %self.address,
                        "TD0355 no node has renewed the lease: the address is taken away until one does"
                    );
                    self.give_up().await;
                }
                Due::Take => {
                    if let Err(error) = self.bring().await {
                        return error;
                    }
                    tracing::info!(line = self.line, address = %self.address, "is here again");
                    neighbours = self.neighbours();
                }
                Due::Renew => {
                    let Mover::Interface(interface) = &self.addresses.mover else { continue };
                    if let Err(error) = self.bring().await {
                        return error;
                    }
                    // They may have gone with an interface that is back.
                    if neighbours.is_none() {
                        neighbours = Neighbours::open(&interface.name, self.address).ok();
                        self.announce(neighbours.as_ref());
                    }
                }
                Due::Announce => self.announce(neighbours.as_ref()),
                Due::Wait { until_ms } => {
                    let wait_ms = until_ms.map_or(0, |until| until.saturating_sub(now));
                    tokio::select! {
                        () = self.renewed.notified() => {}
                        () = tokio::time::sleep(Duration::from_millis(wait_ms)), if until_ms.is_some() => {}
                        () = self.claimed(&mut neighbours, &mut keeping) => {}
                    }
                }
            }
        }
    }

    /// None where there are none to tell, or they can't be.
    fn neighbours(&self) -> Option<Neighbours> {
        let Mover::Interface(interface) = &self.addresses.mover else { return None };
        let opened = Neighbours::open(&interface.name, self.address);
        opened.inspect_err(|error| self.cannot_announce(error)).ok()
    }

    fn announce(&self, neighbours: Option<&Neighbours>) {
        let Some(neighbours) = neighbours else { return };
        match neighbours.announce() {
            Ok(()) => metrics::counter!("tandem_line_address_announcements_total").increment(1),
            Err(error) => self.cannot_announce(&error),
        }
    }

    fn cannot_announce(&self, error: &io::Error) {
        tracing::error!(
            line = self.line,
            address = %self.address,
            %error,
            "TD0353 neighbours can't be told where an address is: they send to the host before until they ask anew"
        );
    }

    /// Completes when another host has claimed the address. Whoever has the lease is right.
    async fn claimed(&self, neighbours: &mut Option<Neighbours>, keeping: &mut Keeping) {
        let Some(here) = neighbours.as_ref() else { return std::future::pending().await };
        let other = match here.claimed().await {
            Ok(other) => other,
            Err(error) => {
                self.cannot_announce(&error);
                *neighbours = None;
                return;
            }
        };
        if keeping.defends(clock::boot_ms()) {
            metrics::counter!("tandem_line_address_claims_total").increment(1);
            let other: Vec<String> = other.iter().map(|byte| format!("{byte:02x}")).collect();
            tracing::error!(
                line = self.line,
                address = %self.address,
                other = other.join(":"),
                at_most_each_ms = limits::DEFEND_MS,
                "TD0352 another host answers for the address of a line that is served here"
            );
            self.announce(Some(here));
        }
    }
}

#[cfg(test)]
mod tests;
