//! The program of the target `protobuf`: libFuzzer's under `cargo xtask fuzz`, else one that reads files.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|input: &[u8]| fenghuo_fuzz::Target::Protobuf.check(input));

#[cfg(not(fuzzing))]
fn main() -> std::process::ExitCode {
    fenghuo_fuzz::Target::Protobuf.run_arguments()
}
