fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    println!("cargo:rerun-if-changed=../storage/proto");
    let files = protox::compile(
        ["tandem/cluster/v1/cluster.proto", "tandem/cluster/v1/control.proto"],
        ["proto", "../storage/proto"],
    )?;
    tonic_prost_build::configure()
        .extern_path(".tandem.storage.v1", "::tandem_storage::proto")
        .compile_fds(files)?;
    Ok(())
}
