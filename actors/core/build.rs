fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    println!("cargo:rerun-if-changed=../sip/proto");
    let files = protox::compile(["tandem/core/v1/core.proto"], ["proto", "../sip/proto"])?;
    prost_build::Config::new()
        .extern_path(".tandem.sip.v1", "::tandem_sip::proto")
        .compile_fds(files)?;
    Ok(())
}
