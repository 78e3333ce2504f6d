use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = Path::new("proto");
    println!("cargo:rerun-if-changed=proto");
    println!("cargo:rerun-if-changed=../cluster/proto");
    let files = protox::compile(
        [
            "tandem/link/v1/link.proto",
            "tandem/copies/v1/copies.proto",
            "tandem/trace/v1/trace.proto",
            // A supervisor tells gateways what it tells voters.
            "tandem/cluster/v1/control.proto",
        ],
        [root, Path::new("../cluster/proto")],
    )?;
    tonic_prost_build::configure().compile_fds(files)?;
    Ok(())
}
