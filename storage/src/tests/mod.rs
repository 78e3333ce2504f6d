mod damage;
mod format;
mod golden;
mod machine;
mod snapshot;
mod suite;
