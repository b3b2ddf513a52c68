//! A network of real nodes over UDP: what saving and finding takes, what idleness costs, and the memory of a node.

use std::collections::VecDeque;
use std::thread;
use std::time::{Duration, Instant};

use kademlia_dht::testnet::{Mix, TestNetwork, TestNode};
use kademlia_dht::{DHTService, Pending};
use kademlia_simulator::Random;

use super::figures::{self, Figures};
use super::system::{Memory, Threads, process_time};
use super::{NODE_THREADS, Scale};
use crate::at_once::each;
use crate::interrupt::Interrupt;
use crate::network::{self, NetworkFailure, bar};
use crate::report::percentile;

/// Bytes of a value.
const VALUE_BYTES: usize = 100;

/// Queries in flight where a rate is measured.
const IN_FLIGHT: usize = 16;

/// No stage takes longer: no further operation is begun then.
const LONGEST: Duration = Duration::from_secs(60);

/// While nothing happens, it is looked so often whether the program is to end: seldom, as that costs time as well.
const PAUSE: Duration = Duration::from_millis(500);

/// A key, its value, and the number of the node that saved it.
#[derive(Debug, Clone)]
struct Saved {
    key: String,
    value: Vec<u8>,
    saver: usize,
}

/// What was measured, and what was not as it should be, in words.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) figures: Figures,
    pub(super) wrong: Vec<String>,
}

/// A network under measurement.
struct Measured<'a> {
    network: TestNetwork,
    interrupt: &'a Interrupt,
    random: &'a mut Random,
    findings: Findings,
    limit: Duration,
}

/// Measures all of it. Memory only if `with_memory`: what one network gave back, the next one takes again unseen.
pub(super) fn measure(
    mix: &Mix,
    seed: u64,
    scale: &Scale,
    with_memory: bool,
    interrupt: &Interrupt,
    random: &mut Random,
) -> Result<Findings, NetworkFailure> {
    let before = Memory::now();
    let network = network::start(mix, seed, interrupt)?;
    let memory = before.zip(Memory::now()).filter(|_| with_memory);
    let stacks = if with_memory { stacks() } else { None };
    let mut measured = Measured { network, interrupt, random, findings: Findings::default(), limit: LONGEST };
    let saved = measured.saves(scale.saves)?;
    measured.queries(&saved, scale.queries)?;
    measured.queries_at_once(&saved, scale.queries_at_once)?;
    measured.idle(scale)?;
    if let Some((before, after)) = memory {
        measured.memory(before, after, stacks);
    }
    let Measured { network, findings, .. } = measured;
    network.stop()?;
    Ok(findings)
}

impl Measured<'_> {
    /// A random node, but not this one.
    fn node_besides(&mut self, other: Option<usize>) -> Option<&TestNode> {
        let nodes = self.network.nodes();
        let places = nodes.len() - usize::from(other.is_some());
        let place = usize::try_from(self.random.below(places as u64)).ok()?;
        // The last one takes the place of the one left out.
        nodes.get(if Some(place) == other { places } else { place })
    }

    /// Saves so many records, one after the other, each from a random node.
    fn saves(&mut self, amount: usize) -> Result<Vec<Saved>, NetworkFailure> {
        let mut tasks = VecDeque::with_capacity(amount);
        for number in 0..amount {
            let value = (0..VALUE_BYTES).map(|_| self.random.bits() as u8).collect();
            let key = format!("dht bench {number} {:016x}", self.random.bits());
            if let Some((saver, service)) = self.node_besides(None).map(|node| (node.index(), node.service().clone())) {
                tasks.push_back((service, Saved { key, value, saver }));
            }
        }
        let mut saved = Vec::with_capacity(amount);
        let save = |service: &DHTService, record: &Saved| service.save(&record.key, &record.value);
        let (times, cpu) = self.one_by_one("save", tasks, save, |record, result| match result {
            Ok(_) => {
                saved.push(record);
                None
            }
            Err(error) => Some(format!("{} cannot be saved: {error}", record.key)),
        })?;
        let figures = &mut self.findings.figures;
        figures.add(&figures::SAVE_P50, percentile(&times, 50));
        figures.add(&figures::SAVE_P99, percentile(&times, 99));
        figures.add(&figures::SAVE_CPU, cpu);
        Ok(saved)
    }

    /// For each of so many queries a record and a node that did not save it.
    fn askers(&mut self, saved: &[Saved], amount: usize) -> VecDeque<(DHTService, Saved)> {
        let mut tasks = VecDeque::with_capacity(amount);
        for _ in 0..amount {
            let Some(record) = self.random.pick(saved).cloned() else { break };
            let service = self.node_besides(Some(record.saver)).map(|node| node.service().clone());
            tasks.extend(service.map(|service| (service, record)));
        }
        tasks
    }

    /// Queries one after the other.
    fn queries(&mut self, saved: &[Saved], amount: usize) -> Result<(), NetworkFailure> {
        let tasks = self.askers(saved, amount);
        let query = |service: &DHTService, record: &Saved| service.query(&record.key);
        let (times, cpu) = self.one_by_one("query", tasks, query, |record, result| fault(&record, &result))?;
        let figures = &mut self.findings.figures;
        figures.add(&figures::QUERY_P50, percentile(&times, 50));
        figures.add(&figures::QUERY_P99, percentile(&times, 99));
        figures.add(&figures::QUERY_CPU, cpu);
        Ok(())
    }

    /// Begins each operation when the one before has ended. Gives the times, sorted, and the processor time of the
    /// whole process in milliseconds for each.
    fn one_by_one<R: Send + 'static>(
        &mut self,
        name: &'static str,
        mut tasks: VecDeque<(DHTService, Saved)>,
        begin: impl Fn(&DHTService, &Saved) -> Pending<R>,
        mut end: impl FnMut(Saved, Result<R, kademlia_dht::Error>) -> Option<String>,
    ) -> Result<(Vec<Duration>, Option<f64>), NetworkFailure> {
        let (bar, start, before) = (bar(name, tasks.len()), Instant::now(), process_time());
        let mut times = Vec::with_capacity(tasks.len());
        while let Some((service, record)) = tasks.pop_front().filter(|_| start.elapsed() < self.limit) {
            let begun = Instant::now();
            let result = begin(&service, &record).wait();
            times.push(begun.elapsed());
            if self.interrupt.is_wanted() {
                bar.finish_and_clear();
                return Err(NetworkFailure::Interrupted);
            }
            self.findings.wrong.extend(end(record, result));
            bar.inc(1);
        }
        let taken = before.zip(process_time()).map(|(before, after)| after.saturating_sub(before));
        bar.finish_and_clear();
        times.sort_unstable();
        let cpu = taken.map(|taken| taken.as_secs_f64() * 1000.0 / times.len().max(1) as f64);
        Ok((times, cpu))
    }

    /// Queries, so many in flight.
    fn queries_at_once(&mut self, saved: &[Saved], amount: usize) -> Result<(), NetworkFailure> {
        let tasks: Vec<(DHTService, Saved)> = self.askers(saved, amount).into();
        let bar = bar("query many", tasks.len());
        let (start, mut done, mut wrong) = (Instant::now(), 0, Vec::new());
        let query = |(service, record): &(DHTService, Saved)| service.query(&record.key);
        let ended = each(self.interrupt, IN_FLIGHT, tasks, query, |(_, record), result| {
            wrong.extend(fault(&record, &result));
            done += 1;
            bar.inc(1);
        });
        let elapsed = start.elapsed();
        bar.finish_and_clear();
        ended?;
        self.findings.wrong.append(&mut wrong);
        let rate = (done > 0).then(|| f64::from(done) / elapsed.as_secs_f64().max(1e-9));
        self.findings.figures.add(&figures::QUERY_RATE, rate);
        Ok(())
    }

    /// What all nodes together take while nobody asks for anything.
    fn idle(&mut self, scale: &Scale) -> Result<(), NetworkFailure> {
        let bar = bar("idle", 1);
        let result = self.rest(scale.settle).and_then(|()| {
            let (before, start) = (process_time(), Instant::now());
            self.rest(scale.idle)?;
            Ok((before, process_time(), start.elapsed()))
        });
        bar.finish_and_clear();
        let (before, after, elapsed) = result?;
        let taken = before.zip(after).map(|(before, after)| after.saturating_sub(before).as_secs_f64());
        let of_ten_seconds = taken.map(|taken| taken * 10.0 / elapsed.as_secs_f64().max(1e-9));
        self.findings.figures.add(&figures::IDLE_CPU, of_ten_seconds);
        Ok(())
    }

    fn rest(&self, time: Duration) -> Result<(), NetworkFailure> {
        let start = Instant::now();
        while let Some(left) = time.checked_sub(start.elapsed()).filter(|left| !left.is_zero()) {
            if self.interrupt.is_wanted() {
                return Err(NetworkFailure::Interrupted);
            }
            thread::sleep(left.min(PAUSE));
        }
        Ok(())
    }

    /// What the nodes have taken by starting and joining.
    fn memory(&mut self, before: Memory, after: Memory, stacks: Option<u64>) {
        let nodes = self.network.nodes().len().max(1) as f64;
        let of_each = |bytes: u64| Some(bytes as f64 / 1024.0 / nodes);
        let figures = &mut self.findings.figures;
        figures.add(&figures::MEMORY, of_each(after.all.saturating_sub(before.all)));
        figures.add(&figures::MEMORY_ANONYMOUS, of_each(after.anonymous.saturating_sub(before.anonymous)));
        figures.add(&figures::MEMORY_STACKS, stacks.and_then(of_each));
    }
}

/// What is resident of the stacks of all nodes, in bytes. Only those of sleeping threads are seen, so it is tried until
/// all of them sleep.
fn stacks() -> Option<u64> {
    let threads = Threads::named(NODE_THREADS)?;
    (0..100).find_map(|_| {
        thread::sleep(Duration::from_millis(5));
        threads.stacks()
    })
}

/// What is wrong with the answer to a query, in words.
fn fault(record: &Saved, result: &Result<Option<kademlia_dht::Found>, kademlia_dht::Error>) -> Option<String> {
    match result {
        Ok(Some(found)) if found.value == record.value => None,
        Ok(Some(_)) => Some(format!("{} was found with another value", record.key)),
        Ok(None) => Some(format!("{} was not found", record.key)),
        Err(error) => Some(format!("{} cannot be queried: {error}", record.key)),
    }
}
