//! `tandem` by its commands: what each prints, keeps and refuses.

mod cli;
mod common;
mod dev;
mod disk;
mod replay;
