//! Standard error and standard output that never hold a service up.
//!
//! A terminal that was stopped (Ctrl-S) or a pipe that nobody reads blocks whoever writes to it. So nobody here
//! writes: lines go into a queue of limited size, and a thread of its own brings them out. What the queue cannot
//! take is dropped and counted, and the count is printed as soon as something can be written again.
//!
//! - [`stderr`] takes the log, the steps of `up`, and messages; [`stdout`] takes results.
//! - [`Output::flush`] waits for what is queued, and no longer than it is told to.
//! - A closed pipe or terminal swallows everything; nothing fails because of it.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::os::fd::AsFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tracing_subscriber::fmt::MakeWriter;

/// About three thousand lines. One text may be larger: see [`Output::put`].
const QUEUE_BYTES_MAX: usize = 512 << 10;
/// How often a descriptor is tried again that others have made non-blocking.
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(20);
/// A panic waits so long for its message to be seen.
const PANIC_SEEN_WITHIN: Duration = Duration::from_millis(200);

/// Standard error. Its thread starts with the first use.
pub fn stderr() -> &'static Output {
    static STDERR: OnceLock<Output> = OnceLock::new();
    STDERR.get_or_init(|| Output::to(duplicate(std::io::stderr())))
}

/// Standard output. Its thread starts with the first use.
pub fn stdout() -> &'static Output {
    static STDOUT: OnceLock<Output> = OnceLock::new();
    STDOUT.get_or_init(|| Output::to(duplicate(std::io::stdout())))
}

/// Puts a message for people on standard error, as a line.
pub fn tell(message: impl std::fmt::Display) {
    stderr().put(&format!("{message}\n"));
}

/// Lets panics speak through [`stderr`] too: the default writes, and would hang, by itself.
pub fn adopt_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let trace = std::backtrace::Backtrace::capture();
        let trace = match trace.status() {
            std::backtrace::BacktraceStatus::Captured => format!("\n{trace}"),
            _ => String::new(),
        };
        tell(format!("millrace: {panic}{trace}"));
        stderr().flush(PANIC_SEEN_WITHIN);
    }));
}

/// The same file under another descriptor, past the locks of the standard library, which a blocked
/// writer would hold.
fn duplicate(stream: impl AsFd) -> Option<File> {
    let descriptor = stream.as_fd().try_clone_to_owned().ok()?;
    Some(File::from(descriptor))
}

/// A stream with its queue. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Output(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    /// There is something to write.
    filled: Condvar,
    /// There is nothing left to write.
    drained: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    /// Since the last report of it.
    dropped: u64,
    /// The thread holds something that is not written yet.
    writing: bool,
    /// Nobody is left who would read.
    closed: bool,
    /// Dropped messages are reported as the JSON log would.
    json: bool,
}

impl Output {
    /// Starts the thread that writes to `file`; without one, or without a thread, all is swallowed.
    pub fn to(file: Option<File>) -> Output {
        let output = Output(Arc::default());
        let shared = output.0.clone();
        let writer = file.map(|mut file| {
            let work = move || shared.write_all_to(&mut file);
            std::thread::Builder::new()
                .name("output".to_owned())
                .spawn(work)
        });
        if !matches!(writer, Some(Ok(_))) {
            output.0.close();
        }
        output
    }

    /// Queues one or more whole lines, or drops them all. Never waits for whoever reads. An empty queue takes a text of
    /// any size: a result is either printed whole or was never asked for.
    pub fn put(&self, text: &str) {
        self.put_bytes(text.as_bytes());
    }

    fn put_bytes(&self, bytes: &[u8]) {
        let mut queue = self.0.lock();
        if queue.closed || bytes.is_empty() {
            return;
        }
        if !queue.lines.is_empty() && queue.bytes + bytes.len() > QUEUE_BYTES_MAX {
            queue.dropped += 1;
            return;
        }
        // In the place of what was dropped, so that a reader sees where it is missing.
        if let Some(report) = queue.take_report() {
            queue.push(report);
        }
        queue.push(bytes.to_owned());
        self.0.filled.notify_one();
    }

    /// Says how much was dropped in the form of the JSON log.
    pub fn report_in_json(&self) {
        self.0.lock().json = true;
    }

    /// True while something that was put has not been written: what is drawn again and again may be left out.
    pub fn is_behind(&self) -> bool {
        self.0.lock().has_work()
    }

    /// Waits until everything is written; false if that took longer than `within`.
    pub fn flush(&self, within: Duration) -> bool {
        let deadline = Instant::now() + within;
        let mut queue = self.0.lock();
        while queue.has_work() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let waited = self.0.drained.wait_timeout(queue, left);
            queue = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

impl Queue {
    fn has_work(&self) -> bool {
        !self.closed && (self.writing || !self.lines.is_empty() || self.dropped > 0)
    }

    fn push(&mut self, line: Vec<u8>) {
        self.bytes += line.len();
        self.lines.push_back(line);
    }

    /// The next thing to write: a line, or at the end of what was kept, how much was not.
    fn take(&mut self) -> Option<Vec<u8>> {
        let Some(line) = self.lines.pop_front() else {
            return self.take_report();
        };
        self.bytes -= line.len();
        Some(line)
    }

    fn take_report(&mut self) -> Option<Vec<u8>> {
        match std::mem::take(&mut self.dropped) {
            0 => None,
            dropped => Some(report(dropped, self.json).into_bytes()),
        }
    }
}

fn report(dropped: u64, json: bool) -> String {
    let message = "messages were dropped here, because nobody read them in time";
    if !json {
        return format!("millrace: {dropped} {message}\n");
    }
    let timestamp = millrace_control::time::text(chrono::Utc::now());
    let event = serde_json::json!({
        "timestamp": timestamp, "level": "WARN", "message": message, "dropped": dropped,
    });
    format!("{event}\n")
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self) {
        let mut queue = self.lock();
        *queue = Queue {
            closed: true,
            ..Queue::default()
        };
        self.drained.notify_all();
    }

    /// The thread: ends when the other side has closed.
    fn write_all_to(&self, file: &mut File) {
        loop {
            let line = self.next();
            if write_whole(file, &line).is_err() {
                return self.close();
            }
        }
    }

    fn next(&self) -> Vec<u8> {
        let mut queue = self.lock();
        queue.writing = false;
        loop {
            if let Some(line) = queue.take() {
                queue.writing = true;
                return line;
            }
            self.drained.notify_all();
            let woken = self.filled.wait(queue);
            queue = woken.unwrap_or_else(PoisonError::into_inner);
        }
    }
}

fn write_whole(file: &mut File, mut bytes: &[u8]) -> std::io::Result<()> {
    while !bytes.is_empty() {
        match file.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                std::thread::sleep(TRY_AGAIN_AFTER);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// For the log, which writes each event with one call.
impl Write for &Output {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.put_bytes(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Output {
    type Writer = &'a Output;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::OwnedFd;

    use super::*;

    const LINE: &str = "a line of the log that is about as long as lines of logs are\n";

    /// An output into a pipe, and the end to read from.
    fn piped() -> (Output, File) {
        let (reader, writer) = std::io::pipe().unwrap();
        let writer = File::from(OwnedFd::from(writer));
        (Output::to(Some(writer)), File::from(OwnedFd::from(reader)))
    }

    /// How many lines were dropped, by all reports in a text.
    fn told(text: &str) -> usize {
        let reports = text.lines().filter(|line| line.ends_with(" in time"));
        let dropped = reports.filter_map(|line| line.split(' ').nth(1)?.parse::<usize>().ok());
        dropped.sum()
    }

    #[test]
    fn a_pipe_that_nobody_reads_holds_nobody_up_and_what_was_dropped_is_told() {
        let (output, mut reader) = piped();
        let puts = 4 * QUEUE_BYTES_MAX / LINE.len();
        for _ in 0..puts {
            output.put(LINE);
        }
        let flushed = output.flush(Duration::from_millis(50));
        assert!(!flushed && output.is_behind(), "the pipe took everything");

        // Somebody reads again. More than one report if the pipe took something after the first line was dropped.
        let mut text = String::new();
        let mut buffer = [0; 1 << 16];
        let kept = |text: &str| text.matches(LINE).count();
        while kept(&text) + told(&text) < puts {
            let read = reader.read(&mut buffer).unwrap();
            text += std::str::from_utf8(&buffer[..read]).unwrap();
        }
        assert!(kept(&text) < puts && kept(&text) + told(&text) == puts);
        assert!(output.flush(Duration::from_secs(10)) && !output.is_behind());
    }

    #[test]
    fn lines_stay_in_order_and_whole() {
        let (output, mut reader) = piped();
        for number in 0..100 {
            output.put(&format!("{number}\n"));
        }
        assert!(output.flush(Duration::from_secs(10)));
        let expected: String = (0..100).map(|number| format!("{number}\n")).collect();
        let mut text = vec![0; expected.len()];
        reader.read_exact(&mut text).unwrap();
        assert_eq!(String::from_utf8(text).unwrap(), expected);
    }

    #[test]
    fn a_text_above_the_limit_is_printed_whole_if_nothing_waits() {
        let (output, mut reader) = piped();
        let text = LINE.repeat(2 * QUEUE_BYTES_MAX / LINE.len());
        output.put(&text);
        let mut read = vec![0; text.len()];
        reader.read_exact(&mut read).unwrap();
        assert!(read == text.as_bytes());
        assert!(output.flush(Duration::from_secs(10)));
    }

    #[test]
    fn a_closed_pipe_swallows_everything() {
        let (output, reader) = piped();
        drop(reader);
        for _ in 0..100 {
            output.put(LINE);
        }
        assert!(output.flush(Duration::from_secs(10)));
        output.put(LINE);
        assert!(!output.is_behind());
    }
}
