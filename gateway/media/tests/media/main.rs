//! Media over sockets of this machine.

mod conference;
mod copies;
mod loopback;
mod prompts;
mod srtp;
