//! Before anything is started: is every address free? Told here, in one sentence, rather than by
//! whichever process trips over it.

use std::net::{SocketAddr, TcpListener, UdpSocket};

use anyhow::{Result, bail};

use crate::config::Cluster;

pub fn check(cluster: &Cluster) -> Result<()> {
    for gateway in &cluster.gateways {
        tell(&gateway.name, "SIP over UDP", gateway.vip, UdpSocket::bind(gateway.vip).map(drop))?;
        tcp(&gateway.name, "SIP over TCP", gateway.vip)?;
        tcp(&gateway.name, "SIP over TLS", gateway.vip_tls())?;
        tcp(&gateway.name, "SIP over WebSocket", gateway.vip_ws())?;
        tcp(&gateway.name, "SIP over WebSocket with TLS", gateway.vip_wss())?;
        tcp(&gateway.name, "HTTP", gateway.api)?;
        if let Some(copies) = gateway.copies {
            tcp(&gateway.name, "copies of recordings", copies)?;
        }
    }
    for member in &cluster.members {
        tcp(&member.name, "Raft", member.raft)?;
        tcp(&member.name, "HTTP", member.http)?;
        if let Some(link) = member.link {
            tcp(&member.name, "the gateways' link", link)?;
        }
    }
    Ok(())
}

fn tcp(name: &str, what: &str, address: SocketAddr) -> Result<()> {
    tell(name, what, address, TcpListener::bind(address).map(drop))
}

fn tell(name: &str, what: &str, address: SocketAddr, bound: std::io::Result<()>) -> Result<()> {
    match bound {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            bail!("{address} is in use by another process; {name} needs it for {what}")
        }
        Err(error) => bail!("{address}, which {name} needs for {what}, can't be bound: {error}"),
    }
}
