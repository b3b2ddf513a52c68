//! What the system says of this process: processor time and memory.
//!
//! Of single threads only Linux says so, in `/proc`. Elsewhere there is `None`, and the figure is left out.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The threads of this process.
const TASKS: &str = "/proc/self/task";

/// Threads whose processor time is measured.
#[derive(Debug)]
pub(super) struct Threads {
    folders: Vec<PathBuf>,
}

impl Threads {
    /// The threads that there are now whose names begin so; `None` where the system does not tell. The first thread, whose name
    /// is that of the program's file, is never one of them.
    pub(super) fn named(prefix: &str) -> Option<Self> {
        let first = PathBuf::from(TASKS).join(std::process::id().to_string());
        let all =
            fs::read_dir(TASKS).ok()?.filter_map(Result::ok).map(|entry| entry.path()).filter(|task| *task != first);
        let is_named =
            |folder: &PathBuf| fs::read_to_string(folder.join("comm")).is_ok_and(|it| it.starts_with(prefix));
        let folders: Vec<PathBuf> = all.filter(is_named).collect();
        let threads = Threads { folders };
        threads.time().map(|_| threads)
    }

    pub(super) fn len(&self) -> usize {
        self.folders.len()
    }

    /// The processor time that they have taken since they began, in user and kernel mode. Exact while they sleep: that
    /// of a thread which runs is counted when the scheduler looks at it.
    pub(super) fn time(&self) -> Option<Duration> {
        self.folders.iter().map(|folder| time_of(folder)).sum()
    }

    /// The resident part of their stacks in bytes, of those that sleep.
    pub(super) fn stacks(&self) -> Option<u64> {
        let maps = resident_maps(&fs::read_to_string("/proc/self/smaps").ok()?);
        let mut stacks = BTreeMap::new();
        for folder in &self.folders {
            let pointer = stack_pointer(&fs::read_to_string(folder.join("syscall")).ok()?)?;
            let (start, (end, resident)) = maps.range(..=pointer).next_back()?;
            if pointer < *end {
                stacks.insert(*start, *resident);
            }
        }
        (stacks.len() == self.folders.len()).then(|| stacks.values().sum())
    }
}

fn time_of(task: &Path) -> Option<Duration> {
    let text = fs::read_to_string(task.join("schedstat")).ok()?;
    text.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}

/// The stack pointer in `/proc/…/syscall`: `<number and arguments> <stack pointer> <instruction pointer>`. A thread
/// that runs shows none.
fn stack_pointer(text: &str) -> Option<u64> {
    let pointer = text.split_whitespace().rev().nth(1)?;
    u64::from_str_radix(pointer.strip_prefix("0x")?, 16).ok()
}

/// The mappings of `/proc/…/smaps`: by their start, their end and how many bytes of them are resident.
fn resident_maps(text: &str) -> BTreeMap<u64, (u64, u64)> {
    let (mut maps, mut current) = (BTreeMap::new(), None);
    for line in text.lines() {
        if let Some(range) = map_range(line) {
            current = Some(range);
        } else if let (Some((start, end)), Some(kibibytes)) = (current, kibibytes(line, "Rss:")) {
            maps.insert(start, (end, kibibytes * 1024));
        }
    }
    maps
}

/// The first line of a mapping: `7f0c00000000-7f0c00021000 rw-p …`.
fn map_range(line: &str) -> Option<(u64, u64)> {
    let (start, end) = line.split_whitespace().next()?.split_once('-')?;
    Some((u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?))
}

/// A line such as `Rss:   12 kB`.
fn kibibytes(line: &str, name: &str) -> Option<u64> {
    line.strip_prefix(name)?.split_whitespace().next()?.parse().ok()
}

/// The memory of this process that is resident, in bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Memory {
    pub(super) all: u64,
    /// Without what belongs to files, such as code.
    pub(super) anonymous: u64,
}

impl Memory {
    pub(super) fn now() -> Option<Self> {
        Memory::of(&fs::read_to_string("/proc/self/status").ok()?)
    }

    fn of(status: &str) -> Option<Self> {
        let bytes = |name: &str| status.lines().find_map(|line| kibibytes(line, name)).map(|number| number * 1024);
        Some(Memory { all: bytes("VmRSS:")?, anonymous: bytes("RssAnon:")? })
    }
}

/// The processor time of the whole process.
#[cfg(unix)]
pub(super) fn process_time() -> Option<Duration> {
    Duration::try_from(rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime)).ok()
}

/// The processor time of the whole process, which this system is not asked for.
#[cfg(not(unix))]
pub(super) fn process_time() -> Option<Duration> {
    None
}

/// The name of the processor, where the system says so in `/proc/cpuinfo`.
pub(super) fn processor() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let fields = text.lines().filter_map(|line| line.split_once(':'));
    fields.filter(|(name, _)| name.trim() == "model name").map(|(_, value)| value.trim().to_owned()).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_linux_says_is_read() {
        let status = "VmRSS:\t    2048 kB\nRssAnon:\t     100 kB\nRssFile:\t 1 kB\n";
        assert_eq!(Memory::of(status), Some(Memory { all: 2048 * 1024, anonymous: 100 * 1024 }));
        assert_eq!(Memory::of("VmRSS: 1 kB"), None);
        assert_eq!(
            stack_pointer("202 0x7f 0x80 0x0 0x0 0x0 0x0 0x7f0c00000010 0x7f0cdeadbeef\n"),
            Some(0x7f0c_0000_0010)
        );
        assert_eq!(stack_pointer("running\n"), None);
        let maps = "7f0c00000000-7f0c00021000 rw-p 00000000 00:00 0 \nSize: 132 kB\nRss:  12 kB\nPss: 12 kB\n";
        assert_eq!(resident_maps(maps), BTreeMap::from([(0x7f0c_0000_0000, (0x7f0c_0002_1000, 12 * 1024))]));
    }

    #[cfg(unix)]
    fn own_time() -> Duration {
        rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime).try_into().unwrap()
    }

    #[test]
    #[cfg(unix)]
    fn the_time_of_a_thread_is_its_own() {
        let (begin, begun) = std::sync::mpsc::channel();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let worker = move || {
            let start = std::time::Instant::now();
            while start.elapsed() < Duration::from_millis(50) {}
            begin.send(own_time()).unwrap();
            ended.recv().ok();
        };
        let thread = std::thread::Builder::new().name("busy-for-a-test".to_owned()).spawn(worker).unwrap();
        let own = begun.recv().unwrap();
        std::thread::sleep(Duration::from_millis(20));
        if let Some(threads) = Threads::named("busy-for-a-test") {
            assert_eq!(threads.len(), 1);
            let time = threads.time().unwrap();
            // It says so, waits and falls asleep after it has looked at its clock.
            assert!(time >= own && time < own + Duration::from_millis(20), "{time:?}, and its own clock {own:?}");
            assert_eq!(threads.time(), Some(time), "it sleeps");
        }
        drop(end);
        thread.join().unwrap();
    }
}
