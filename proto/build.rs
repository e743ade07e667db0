//! Generates the gRPC code without `protoc`: protox compiles the file, tonic writes the stubs.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    const FILE: &str = "salesai/inference/v1/inference.proto";
    println!("cargo:rerun-if-changed={FILE}");
    let descriptors = protox::compile([FILE], ["."])?;
    let out_dir =
        std::path::PathBuf::from(std::env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    std::fs::write(
        out_dir.join("inference.fds"),
        prost::Message::encode_to_vec(&descriptors),
    )?;
    tonic_prost_build::configure()
        .build_server(cfg!(feature = "server"))
        .build_transport(false)
        .compile_fds(descriptors)?;
    Ok(())
}
