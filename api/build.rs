//! Compiles the services. The objects in them are the codec's, not a second copy.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = ["store", "cluster", "nodes", "ovn", "peer", "trace"]
        .map(|file| format!("atoll/v1/{file}.proto"));
    let includes = ["proto", "../store/codec/proto"];
    println!("cargo::rerun-if-changed=proto");
    println!("cargo::rerun-if-changed=../store/codec/proto");
    let descriptors = protox::compile(files, includes)?;
    tonic_prost_build::configure()
        .btree_map(".")
        .bytes(".")
        .extern_path(".atoll.store.v1", "::atoll_codec::proto")
        .compile_fds(descriptors)?;
    Ok(())
}
