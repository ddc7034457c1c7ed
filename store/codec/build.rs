//! Compiles the persisted messages. No protoc: protox is a protobuf compiler in Rust.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = ["atoll/store/v1/objects.proto", "atoll/store/v1/txn.proto"];
    println!("cargo::rerun-if-changed=proto");
    let descriptors = protox::compile(files, ["proto"])?;
    let mut config = prost_build::Config::new();
    // Maps in order: equal objects give equal bytes.
    config.btree_map(["."]).bytes(["."]).compile_fds(descriptors)?;
    Ok(())
}
