mod format;
mod golden;
mod machine;
mod suite;
