//! Addresses on one interface of this host. A thread of its own talks to the kernel, which may make it wait for others that
//! change the network; orders are done one after the other, so that what is taken away last is away.

use std::ffi::CString;
use std::io;
use std::net::IpAddr;

use tokio::sync::{mpsc, oneshot};

use crate::error::Error;
use crate::limits::{ORDERS_MAX, VALID_S};
use crate::netlink::{Netlink, Standing};

enum Work {
    Put(IpAddr),
    TakeAway(IpAddr),
    /// What earlier processes have left of these.
    Clear(Vec<IpAddr>),
}

/// Addresses that stand there for good, and were left.
type Answer = Result<Vec<IpAddr>, Error>;

#[derive(Clone, Debug)]
pub struct Interface {
    pub name: String,
    orders: mpsc::Sender<(Work, oneshot::Sender<Answer>)>,
}

impl Interface {
    /// # Errors
    /// Where the thread can't be started.
    pub fn start(name: &str, prefix: Option<u8>) -> io::Result<Self> {
        let (orders, mut inbox) = mpsc::channel::<(Work, oneshot::Sender<Answer>)>(ORDERS_MAX);
        let mut kernel = Kernel { name: name.to_owned(), prefix, netlink: None };
        std::thread::Builder::new().name("addresses".into()).spawn(move || {
            while let Some((work, answer)) = inbox.blocking_recv() {
                // Who is gone needs no answer; the order counts all the same.
                let _ = answer.send(kernel.perform(&work));
            }
        })?;
        Ok(Self { name: name.to_owned(), orders })
    }

    /// Puts an address there, or renews it.
    ///
    /// # Errors
    /// Why it can't.
    pub async fn put(&self, address: IpAddr) -> Result<(), Error> {
        self.order(Work::Put(address)).await.map(|_| ())
    }

    /// # Errors
    /// Why it can't. One that is not there is away.
    pub async fn take_away(&self, address: IpAddr) -> Result<(), Error> {
        self.order(Work::TakeAway(address)).await.map(|_| ())
    }

    /// Takes away those of `addresses` that stand there for a time: an earlier process has left them. Gives those that stand
    /// there for good, which are somebody else's.
    ///
    /// # Errors
    /// Why it can't.
    pub async fn clear(&self, addresses: Vec<IpAddr>) -> Result<Vec<IpAddr>, Error> {
        self.order(Work::Clear(addresses)).await
    }

    /// Given at once: whoever is cancelled while it waits for the answer has ordered all the same.
    async fn order(&self, work: Work) -> Answer {
        let gone = || Error::List {
            interface: self.name.clone(),
            source: io::Error::other("the thread of addresses is gone"),
        };
        let (answer, answered) = oneshot::channel();
        self.orders.send((work, answer)).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

/// The thread's side.
struct Kernel {
    name: String,
    prefix: Option<u8>,
    netlink: Option<Netlink>,
}

impl Kernel {
    fn perform(&mut self, work: &Work) -> Answer {
        let done = self.try_perform(work);
        if done.is_err() {
            // A late answer would be taken for the next one's.
            self.netlink = None;
        }
        done
    }

    fn try_perform(&mut self, work: &Work) -> Answer {
        let index = match index_of(&self.name) {
            // With the interface all that was on it is gone.
            Err(Error::NoInterface(_)) if matches!(work, Work::TakeAway(_)) => {
                return Ok(Vec::new());
            }
            index => index?,
        };
        let interface = || self.name.clone();
        let prefix = self.prefix;
        let netlink = match &mut self.netlink {
            Some(netlink) => netlink,
            none => none.insert(
                Netlink::open().map_err(|source| Error::List { interface: interface(), source })?,
            ),
        };
        let standing = |address: IpAddr| Standing {
            address,
            prefix: prefix.unwrap_or(whole(address)),
            permanent: false,
        };
        match work {
            Work::Put(address) => match netlink.put(index, &standing(*address), VALID_S) {
                Ok(()) => Ok(Vec::new()),
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    Err(Error::MayNot { interface: interface(), address: *address })
                }
                Err(source) => {
                    Err(Error::Put { interface: interface(), address: *address, source })
                }
            },
            Work::TakeAway(address) => {
                let away = netlink.take_away(index, &standing(*address));
                away.map(|_| Vec::new()).map_err(|source| Error::TakeAway {
                    interface: interface(),
                    address: *address,
                    source,
                })
            }
            Work::Clear(addresses) => {
                let listed = netlink.list(index);
                let listed =
                    listed.map_err(|source| Error::List { interface: interface(), source })?;
                let ours = listed.into_iter().filter(|it| addresses.contains(&it.address));
                let mut left = Vec::new();
                for found in ours {
                    if found.permanent {
                        left.push(found.address);
                        continue;
                    }
                    netlink.take_away(index, &found).map_err(|source| Error::TakeAway {
                        interface: interface(),
                        address: found.address,
                        source,
                    })?;
                }
                Ok(left)
            }
        }
    }
}

/// Bits of a prefix that is the address itself.
pub fn whole(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// It may be another one each time: interfaces come and go.
pub(crate) fn index_of(name: &str) -> Result<u32, Error> {
    let none = || Error::NoInterface(name.to_owned());
    let c_name = CString::new(name).map_err(|_| none())?;
    // SAFETY: the name ends with a zero and lives through the call.
    match unsafe { libc::if_nametoindex(c_name.as_ptr()) } {
        0 => Err(none()),
        index => Ok(index),
    }
}
