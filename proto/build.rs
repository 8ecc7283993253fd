//! Compiles every file of `proto/` without a protoc on the machine.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let mut files = Vec::new();
    for entry in std::fs::read_dir("proto")? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "proto") {
            files.push(path);
        }
    }
    files.sort();
    // Of agents' streams a server has thousands.
    let (of_agents, others): (Vec<_>, Vec<_>) = files.into_iter().partition(|path| path.ends_with("agent.proto"));
    let compile = |files: &[_]| protox::compile(files, ["proto"]);
    tonic_prost_build::configure().bytes(".").compile_fds(compile(&others)?)?;
    let sparing = tonic_prost_build::configure().bytes(".").codec_path("crate::codec::SparingCodec");
    sparing.compile_fds(compile(&of_agents)?)?;
    Ok(())
}
