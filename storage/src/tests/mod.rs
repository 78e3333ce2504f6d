mod damage;
mod format;
mod golden;
mod machine;
mod mending;
mod snapshot;
mod suite;
