//! Your own parameters on your own wire: does a network with k = 8 keep its records for three hours?
//!
//! Run it with `cargo run --release -p kademlia-simulator --example own_configuration`.

use std::error::Error;
use std::io::{Write, stdout};
use std::time::Duration;

use kademlia_dht::core::Params;
use kademlia_simulator::{Churn, Departure, KEY_SPACE, Loss, Network, Sessions, Setup, Wire, Workload};

fn main() -> Result<(), Box<dyn Error>> {
    let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
    for k in [4, 8, 20] {
        let params = Params { k, replicate_interval: minutes(30), ..Params::new(KEY_SPACE) };
        let wire = Wire { loss: Loss::Independent(0.02), ..Wire::default() };
        let mut network = Network::new(&Setup { params, wire, seed: 1, ..Setup::default() });

        network.grow(200);
        let sessions = Sessions::Weibull { shape: 0.6, median: minutes(30) };
        network.churn(Churn { sessions, departure: Departure::Replaced });
        network.save_records(200, 100);

        network.measure();
        network.work(Workload { gets: 0.5, ..Workload::default() });
        network.run_for(minutes(180));
        let report = network.report();
        writeln!(
            stdout(),
            "k = {k}: {:.3} % of {} queries found the newest version, {} of 200 records are lost, {:.0} bytes per node and second",
            report.get_success.unwrap_or_default() * 100.0,
            report.gets,
            report.lost,
            report.bytes_per_node_s.unwrap_or_default(),
        )?;
    }
    Ok(())
}
