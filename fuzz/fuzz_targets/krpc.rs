#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| kademlia_fuzz::krpc::run(input));
